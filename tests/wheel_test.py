"""The wheel alone, made of the sdist alone: it trains a step, and answers."""

import os
import shutil
import subprocess
import sys
import tarfile

import build_deps
import pytest
import tiny_records

from mmicl_jax import tokenizer

pytestmark = pytest.mark.slow
OUTPUTS = ('build', 'dist', '.git', '.venv', 'venv', 'tests', 'docs')
ANYWHERE = shutil.ignore_patterns('*.egg-info', '__pycache__', '.pytest_cache')


def left_out(folder, names):
  """What is not copied: of the clone's top also OUTPUTS, which elsewhere may be
  names of packages."""
  at_top = folder == str(build_deps.ROOT)
  return ANYWHERE(folder, names) | (set(OUTPUTS) if at_top else set())


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder with what `pip install mmicl_jax-*.whl` brings, and no clone.

  The wheel is built of the sdist, as by who has no clone: so neither lacks
  anything.
  """
  folder = tmp_path_factory.mktemp('wheel')
  clone = folder / 'clone'
  shutil.copytree(build_deps.ROOT, clone, ignore=left_out)
  build = 'import setuptools.build_meta as b; b.build_sdist("..")'
  subprocess.run(
    [sys.executable, '-c', build], cwd=clone, check=True, capture_output=True
  )
  shutil.rmtree(clone)
  [sdist] = folder.glob('mmicl_jax-*.tar.gz')
  with tarfile.open(sdist) as file:
    file.extractall(folder / 'unpacked', filter='data')
  [source] = (folder / 'unpacked').iterdir()
  pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
  alone = ['--no-deps', '--no-build-isolation', '--no-index']
  subprocess.run(
    [*pip, 'wheel', *alone, '-w', str(folder), str(source)],
    check=True,
    capture_output=True,
  )
  [wheel] = folder.glob('mmicl_jax-*.whl')
  site = folder / 'site'
  subprocess.run(
    [*pip, 'install', '--no-deps', '--no-index', '--target', str(site)]
    + [str(wheel)],
    check=True,
    capture_output=True,
  )
  shutil.rmtree(source)
  return site


def run(site, folder, *argv):
  """`python -m mmicl_jax` of the wheel, in a folder of its own."""
  found = subprocess.run(
    [sys.executable, '-m', 'mmicl_jax', *map(str, argv)],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(site)},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr[-3000:]
  return found.stdout


def test_the_wheel_trains_and_answers(installed, tmp_path):
  assert str(installed) in run(installed, tmp_path, 'env')
  tiny_records.write(tmp_path, 4)
  words = tokenizer.Tokenizer(tmp_path / 'spiece.model')
  settings = {
    'MODEL_DIR': "'out'",
    'DATA': "'train.jsonl'",
    'VOCABULARY': "'spiece.model'",
    'TRAIN_STEPS': 1,
    'BATCH_SIZE': 2,
    'INPUTS_LENGTH': 64,
    'TARGETS_LENGTH': 8,
    'MAX_IMAGES': 1,
    'TEMPLATES': "'vqa'",  # of the wheel, as the gin files are
    'presets.model.vocab_size': words.vocab_size,
    'presets.model.image_token': words.image_id,
  }
  run(
    installed,
    tmp_path,
    'train',
    *(
      f'--gin_file={name}.gin'
      for name in ('models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train')
    ),
    *(f'--gin.{name}={value}' for name, value in settings.items()),
  )
  assert (tmp_path / 'out' / 'checkpoint_1').is_dir()
  card = (tmp_path / 'out' / 'README.md').read_text()
  assert '| steps | 1 of 1 |' in card and '| records | 4 |' in card
  question = ['--prompt', 'What colour is it?', '--image', '0.png', '--json']
  said = run(installed, tmp_path, 'generate', '--checkpoint', 'out', *question)
  assert '"text"' in said


def test_the_wheel_brings_its_gin_files_templates_and_pages(installed):
  package = installed / 'mmicl_jax'
  for kind, roots in {
    '*.gin': ('gin_configs',),
    '*.json': ('tasks', 'mmicl_jax'),
    '*.j2': ('mmicl_jax',),
    '*.html': ('mmicl_jax',),
    '*.js': ('mmicl_jax',),
    '*.css': ('mmicl_jax',),
    '*.svg': ('mmicl_jax',),
  }.items():
    for root in roots:
      for file in (build_deps.ROOT / root).rglob(kind):
        inside = file.relative_to(build_deps.ROOT)
        inside = (
          inside.relative_to('mmicl_jax') if root == 'mmicl_jax' else inside
        )
        assert (package / inside).read_bytes() == file.read_bytes(), inside
