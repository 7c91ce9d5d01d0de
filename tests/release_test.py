"""What a release rests on: one version, a changelog, links, the workflows."""

import datetime
import re
import shutil

import build_deps
import links
import pytest
import release
import yaml
from packaging.specifiers import SpecifierSet

ROOT = build_deps.ROOT
GITHUB = ROOT / '.github'
WORKFLOWS = sorted((GITHUB / 'workflows').glob('*.yml'))
SETUP = (ROOT / 'setup.py').read_text(encoding='utf-8')


def read(path):
  return yaml.safe_load(path.read_text(encoding='utf-8'))


def test_the_version_stands_in_one_place_and_is_repeated():
  assert {release.version(name) for name in release.PLACES} == {
    release.version()
  }
  log = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
  first, *_ = re.findall(r'^## \[(.*?)\]', log, re.M)
  assert first == 'Unreleased'


@pytest.fixture
def clone(tmp_path):
  for name in (*release.PLACES, 'CHANGELOG.md'):
    shutil.copy(ROOT / name, tmp_path)
  log = '# Changelog\n\n## [Unreleased]\n\n### Added\n\n* A thing.\n'
  (tmp_path / 'CHANGELOG.md').write_text(log + '\n## [0.0.1] - 2020-01-01\n')
  return tmp_path


def test_a_release_writes_the_version_and_a_section(clone):
  release.set_version('9.8.7', datetime.date(2030, 1, 2), clone)
  for name in release.PLACES:
    assert release.version(name, clone) == '9.8.7'
  text = (clone / 'CHANGELOG.md').read_text()
  assert '## [Unreleased]\n\n## [9.8.7] - 2030-01-02\n\n### Added' in text
  assert release.section('9.8.7', clone) == '### Added\n\n* A thing.'
  for again, words in (('9.8.7', 'already'), ('9.9.0', 'nothing under')):
    with pytest.raises(SystemExit, match=words):
      release.set_version(again, datetime.date(2030, 1, 2), clone)
  with pytest.raises(SystemExit, match='is not a version'):
    release.set_version('v9', datetime.date(2030, 1, 2), clone)


def placeholder():
  """What RELEASING.md replaces, by what, and the patterns of files."""
  guide = (ROOT / 'RELEASING.md').read_text('utf-8')
  [(old, new, names)] = re.findall(r"sed -i 's#(.*?)#(.*?)#g' (.*?) &&", guide)
  return old, new, names.split()


def test_a_tag_waits_until_the_repository_has_an_owner(tmp_path, monkeypatch):
  old, new, patterns = placeholder()
  address = 'https://github.com/{}/blob/main/README.md\n'
  pages = ('README.md', 'docs/start.md', 'notebooks/a.ipynb', 'notebooks/a.md')
  for name in pages:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(address.format(old))
  assert release.without_owner(tmp_path) == list(pages)
  for path in (path for each in patterns for path in tmp_path.glob(each)):
    path.write_text(address.format(new))
  assert release.without_owner(tmp_path) == ['notebooks/a.ipynb']

  tag = f'v{release.version()}'
  monkeypatch.setattr('sys.argv', ['release.py', '--tag', tag])
  monkeypatch.setattr(release, 'without_owner', lambda: ['docs/start.md'])
  with pytest.raises(SystemExit, match=r'docs/start\.md'):
    release.main()
  monkeypatch.setattr(release, 'without_owner', list)
  assert release.main() == 0


def test_the_command_that_names_the_owner_reaches_all_pages():
  """Notebooks are made anew of their Markdown after it."""
  _, _, patterns = placeholder()
  reached = {str(p.relative_to(ROOT)) for x in patterns for p in ROOT.glob(x)}
  left = {*release.without_owner()} - reached
  assert not [name for name in left if not name.endswith('.ipynb')]


def test_a_citation_has_what_its_format_wants():
  found = read(ROOT / 'CITATION.cff')
  assert {'cff-version', 'message', 'title', 'authors'} <= found.keys()
  paper = found['references'][0]
  assert {'type', 'title', 'authors'} <= paper.keys()
  assert len(paper['authors']) == 10 and '2309.07915' in paper['url']


def test_no_link_of_the_pages_is_broken(tmp_path):
  assert links.broken(external=False) == []
  page = '# A title: here\n\n[a](b.md) [b](#a-title-here) [c](#x)\n'
  (tmp_path / 'a.md').write_text(page + '```\n[d](none.md)\n```\n')
  (tmp_path / 'docs').mkdir()
  assert links.broken(external=False, root=tmp_path) == [
    'a.md:3: b.md',
    'a.md:3: #x',
  ]


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.name)
def test_workflows_are_pinned_and_may_little(path):
  flow = read(path)
  assert flow['permissions'] == {'contents': 'read'}
  for job in flow['jobs'].values():
    for step in job['steps']:
      # Tags can be moved to other code.
      if 'uses' in step:
        assert re.search(r'@[0-9a-f]{40}$', step['uses']), step
    # Only jobs that run none of our code may write anything.
    ours = any('checkout' in step.get('uses', '') for step in job['steps'])
    assert not (ours and 'permissions' in job)


def steps():
  for path in WORKFLOWS:
    for job in read(path)['jobs'].values():
      for step in job['steps']:
        if 'run' in step:
          yield step['run']


def test_workflows_name_what_there_is():
  table = SETUP[SETUP.index('EXTRAS = {') :]
  extras = set(re.findall(r"^  '(\w+)':", table, re.M))
  asked = set()
  for run in steps():
    for name in re.findall(r'(?:tools|tests|requirements)/[\w./]+', run):
      assert (ROOT / name).exists(), name
    for found in re.findall(r'pip install.*?\[([\w,]+)\]', run):
      asked |= set(found.split(','))
  assert len(asked) > 4 and asked <= extras


def test_every_python_that_is_promised_is_tested():
  [promised] = re.findall(r"python_requires='([^']*)'", SETUP)
  minors = [
    f'3.{n}' for n in range(8, 30) if f'3.{n}' in SpecifierSet(promised)
  ]
  jobs = read(GITHUB / 'workflows' / 'tests.yml')['jobs']
  for name in ('tests', 'package'):
    assert jobs[name]['strategy']['matrix']['python'] == minors
  told = re.findall(r"'Programming Language :: Python :: (3\.\d+)'", SETUP)
  assert told == minors


def test_issue_forms_ask_for_the_environment():
  forms = sorted((GITHUB / 'ISSUE_TEMPLATE').glob('*.yml'))
  for path in forms:
    if path.name != 'config.yml':
      form = read(path)
      assert {'name', 'description', 'body'} <= form.keys()
      ids = [part['id'] for part in form['body'] if 'id' in part]
      assert len(ids) == len(set(ids)) > 0
  assert 'mmicl env' in (GITHUB / 'ISSUE_TEMPLATE/bug.yml').read_text()
