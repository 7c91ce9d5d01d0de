"""METEOR is asked of its Java program, and left out where that is missing."""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest
from score_cases import CASES, case_of, data_of, expected_of, score
from small_captions import SMALL_CAPTIONS, write_lines

from mmicl_jax.metrics import meteor


@pytest.fixture
def nocaps(tmp_path):
  """The arguments for a small NoCaps: four images, two references each."""
  (tmp_path / 'data').mkdir()
  answers = SMALL_CAPTIONS['nocaps'](tmp_path / 'data', '').answers
  rows = [
    {'id': key, 'output': f'{text} ||| x'} for key, text in answers.items()
  ]
  write_lines(tmp_path / 'answers.jsonl', rows)
  return 'nocaps', tmp_path / 'data', tmp_path / 'answers.jsonl'


PROGRAM = """#!{python}
import sys
for line in sys.stdin:
  parts = line.rstrip('\\n').split(' ||| ')
  if parts[0] == 'SCORE':
    print(len(parts) - 2, flush=True)  # references
  elif {fails}:
    sys.exit()
  else:
    for part in parts[1:]:
      print(int(part) / 10)
    print(sum(map(int, parts[1:])) / 100, flush=True)
"""


@pytest.mark.parametrize('fails', [False, True])
def test_its_program_is_asked(nocaps, fails, monkeypatch, tmp_path):
  """Here a stand-in for Java, which scores a reference 1/100."""
  java = tmp_path / 'java'
  java.write_text(PROGRAM.format(python=sys.executable, fails=fails), 'utf-8')
  java.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.setattr(meteor, '_jar', lambda: tmp_path / 'meteor.jar')
  got = score(*nocaps)
  if fails:
    assert 'meteor' not in got['metrics']
    assert 'failed' in ' '.join(got['notes'])
  else:
    assert got['notes'] == []
    assert got['metrics']['meteor'] == 0.08
    assert got['metrics']['domain/domain 1/meteor'] == 0.04


def test_without_java_it_is_left_out(nocaps, monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', '')
  monkeypatch.setattr(meteor, '_jar', lambda: tmp_path / 'meteor.jar')
  got = score(*nocaps)
  assert 'meteor' not in got['metrics']
  assert 'Java' in ' '.join(got['notes'])


@pytest.mark.slow
@pytest.mark.skipif(
  shutil.which('java') is None or not importlib.util.find_spec('pycocoevalcap'),
  reason='Java or pycocoevalcap is not installed: the extra meteor',
)
def test_its_recorded_scores(tmp_path):
  """In a process of its own, where conftest.py does not hide the program."""
  folder = next((f for f in CASES if case_of(f)['benchmark'] == 'nocaps'), None)
  if folder is None:
    pytest.skip('the recorded cases are not here')
  argv = ['--benchmark', 'nocaps', '--data', data_of(folder, tmp_path)]
  argv += ['--predictions', folder / case_of(folder)['predictions'], '--json']
  done = subprocess.run(
    [sys.executable, '-m', 'mmicl_jax', 'score', *map(str, argv)],
    capture_output=True,
    check=True,
  )
  got = json.loads(done.stdout)['metrics']
  for name, value in expected_of(folder)['official']['metrics'].items():
    assert got[name] == pytest.approx(value, abs=1e-6), name
