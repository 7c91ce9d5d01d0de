"""MME: what counts as yes and no, and published answers scored again."""

import re

import build_deps
import pytest
from score_cases import score
from small_benchmarks import SMALL

from mmicl_jax.metrics import mme

LAVIN = build_deps.ROOT.parent / 'shared' / 'data' / 'mme' / 'LaVIN'


@pytest.mark.parametrize(
  'output, official, lmms_eval, vlmevalkit',
  [
    ('Not sure', 'no', 'no', 'Unknown'),
    ('There is no dog', 'other', 'other', 'No'),
    ('The answer is yes', 'other', 'other', 'Yes'),
    ('Yes, no doubt', 'yes', 'yes', 'Unknown'),
    (' yes', 'yes', 'yes', 'Yes'),
    ('  yes', 'other', 'yes', 'Yes'),
    ('  no', 'no', 'no', 'No'),
    ('North', 'no', 'no', 'Unknown'),
    ('Y', 'other', 'yes', 'Unknown'),
    ('n.', 'other', 'no', 'Unknown'),
    ('yes/no', 'yes', 'yes', 'Unknown'),
    ('', 'other', 'other', 'Unknown'),
  ],
)
def test_each_mode_reads_answers_in_its_own_way(
  output, official, lmms_eval, vlmevalkit, tmp_path
):
  data = tmp_path / 'data'
  data.mkdir()
  answers = SMALL['mme'](data, 'official').answers
  [name, *_] = answers
  annotations = mme.SCORERS[0].read(data)
  for mode, parsed in (
    ('official', official),
    ('lmms-eval', lmms_eval),
    ('vlmevalkit', vlmevalkit),
  ):
    scored = mme.SCORERS[0].score(annotations, {**answers, name: output}, mode)
    assert scored.per_item[0]['parsed'] == parsed


def test_an_image_that_lacks_an_answer_is_left_out(tmp_path):
  """Without a whole pair a task has no score, and the notes name it."""
  SMALL['mme'](tmp_path, 'official')
  annotations = mme.SCORERS[0].read(tmp_path)
  answers = {
    'count/1.jpg/0': 'yes',
    'count/1.jpg/1': 'no',
    'count/图 2.png/1': 'yes',
    'OCR/1.jpg/0': 'yes',
  }
  scored = mme.SCORERS[0].score(annotations, answers, 'official')
  assert scored.metrics == {
    'perception': 200,
    'task/count/acc': 1,
    'task/count/acc_plus': 1,
    'task/count/score': 200,
  }
  assert 'OCR' in scored.notes[0] and 'count' not in scored.notes[0]
  assert len(scored.per_item) == 2


def test_a_task_without_an_answer_that_is_understood_is_0_and_said(tmp_path):
  answers = SMALL['mme'](tmp_path, 'official').answers
  annotations = mme.SCORERS[0].read(tmp_path)
  outputs = {k: '' if k.startswith('OCR') else v for k, v in answers.items()}
  scored = mme.SCORERS[0].score(annotations, outputs, 'official')
  assert scored.metrics['task/OCR/score'] == 0
  assert scored.metrics['perception'] == 1800
  [note] = scored.notes
  assert note.endswith(': OCR')


@pytest.mark.skipif(not LAVIN.is_dir(), reason='the answers are not here')
def test_lavins_published_answers(tmp_path, monkeypatch):
  """As docs/evaluation.md makes them; the tool gives 963.61 and 249.64."""
  text = (build_deps.ROOT / 'docs/evaluation.md').read_text(encoding='utf-8')
  [script] = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'eval_tool').mkdir()
  (tmp_path / 'eval_tool' / 'LaVIN').symlink_to(LAVIN)
  exec(script, {})
  table = re.findall(r'\| ([\w-]+) \| (9\d+\.\d+) \| (2\d+\.\d+) \|\n', text)
  assert ('official', '963.61', '249.64') in table
  assert ('vlmevalkit', '963.61', '248.93') in table
  for mode, *cells in table:
    metrics = score('mme', 'MME', 'lavin.jsonl', '--mode', mode)['metrics']
    assert cells == [f'{metrics[k]:.2f}' for k in ('perception', 'cognition')]
