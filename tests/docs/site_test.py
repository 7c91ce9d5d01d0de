"""The site is built without a warning or the net, and has all pages."""

import os
import re
import shutil
import subprocess
import sys

import build_deps
import doc_pages
import pytest

TAKEN = ('mmicl_jax', 'gin_configs', 'notebooks')
PAGES = (
  'CHANGELOG',
  'CONTRIBUTING',
  'RELEASING',
  'SECURITY',
  'CODE_OF_CONDUCT',
)


def named():
  """The pages of the index, without suffix."""
  index = (doc_pages.DOCS / 'index.md').read_text('utf-8')
  trees = re.findall(r'```\{toctree\}\n(.*?)```', index, re.S)
  lines = [line for tree in trees for line in tree.splitlines()]
  return {line for line in lines if line and not line.startswith(':')}


def test_every_page_is_in_the_index():
  for page in doc_pages.pages():
    name = str(page.relative_to(doc_pages.DOCS).with_suffix(''))
    assert name in named() | {'index'}, f'docs/index.md does not name {name}'


def test_the_index_leads_to_every_page_on_github_too():
  """There, toctrees are no links."""
  index = (doc_pages.DOCS / 'index.md').read_text('utf-8')
  links = set(re.findall(r'\]\((?:\.\./)?([\w/]+)\.md\)', index))
  links |= {name.lower() for name in links if name in PAGES}
  assert named() <= links


def test_every_notebook_is_in_the_index():
  for notebook in (build_deps.ROOT / 'notebooks').glob('*.md'):
    assert f'notebooks/{notebook.stem}' in named()


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The built site, of a copy, since the build writes pages beside its own."""
  for package in ('myst_nb', 'furo', 'sphinx_copybutton'):
    pytest.importorskip(package, reason=f'needs {package}, of the extra `docs`')
  folder = tmp_path_factory.mktemp('site')
  made = shutil.ignore_patterns('generated', 'notebooks', '_build')
  shutil.copytree(doc_pages.DOCS, folder / 'docs', ignore=made)
  for name in (*TAKEN, *(f'{page}.md' for page in PAGES)):
    (folder / name).symlink_to(build_deps.ROOT / name)
  build = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going']
  # Whoever asks the net gets an error.
  offline = dict.fromkeys(('http_proxy', 'https_proxy'), 'http://127.0.0.1:9')
  done = subprocess.run(
    [*build, str(folder / 'docs'), str(folder / 'built')],
    env={**os.environ, **offline},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return folder / 'built'


@pytest.mark.slow
def test_it_is_built_and_llms_txt_names_every_page(site):
  told = (site / 'llms.txt').read_text('utf-8')
  for name in named():
    assert (site / f'{name}.html').is_file(), name
    assert f'({name}.html): ' in told, name


@pytest.mark.slow
def test_the_reference_says_what_the_code_says(site):
  commands = (site / 'reference/commands.html').read_text('utf-8')
  assert 'mmicl data cache-features' in commands
  assert '--num_return_sequences' in commands
  assert 'MODEL_DIR' in (site / 'reference/gin.html').read_text('utf-8')
  assert '/v1/rank' in (site / 'reference/http.html').read_text('utf-8')
  python = (site / 'reference/python.html').read_text('utf-8')
  for name in ('Turn', 'assemble', 'load', 'Predictor', 'Answer', 'Options'):
    assert f'id="mmicl_jax.{name}"' in python, name


@pytest.mark.slow
def test_pages_load_nothing_from_the_net(site):
  """But the badges of the notebooks."""
  for page in site.rglob('*.html'):
    loaded = re.findall(
      r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]+)',
      page.read_text('utf-8'),
    )
    badges = [x for x in loaded if 'badge' in x or 'open-in-kaggle' in x]
    assert loaded == badges, page.name
