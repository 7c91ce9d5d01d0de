"""Predictions are read strictly: each fault is one sentence, and no output."""

import json

import fsspec
import pytest
from score_cases import items_of, run, score
from small_benchmarks import SMALL, write_lines

GOOD = {'id': 'q0', 'output': 'a cow'}
OTHER = {'id': 'q1', 'output': 'Hen'}


@pytest.fixture
def data(tmp_path):
  folder = tmp_path / 'data'
  folder.mkdir()
  SMALL['aokvqa_mc'](folder, 'official')
  return folder


def lines(*rows):
  return ''.join(
    row if isinstance(row, str) else f'{json.dumps(row)}\n' for row in rows
  ).encode('utf-8', 'surrogatepass')


FAULTS = {
  'missing': (lines(GOOD), "id 'q1'"),
  'twice': (lines(GOOD, OTHER, GOOD), 'line 3'),
  'unknown': (lines(GOOD, {'id': 'q2', 'output': ''}), 'line 2'),
  'empty': (b'', 'is empty'),
  'only a newline': (b'\n', 'line 1'),
  'a blank line': (lines(GOOD, '\n', OTHER), 'line 2'),
  'a list': (lines(GOOD, '["q1", "Hen"]\n'), 'line 2'),
  'no JSON': (lines(GOOD, '{"id": "q1", "output": "Hen"\n'), 'line 2'),
  'one array of all': (json.dumps([GOOD, OTHER], indent=1).encode(), 'line 1'),
  'latin-1': (lines(GOOD) + b'{"id": "q1", "output": "caf\xe9"}\n', 'line 2'),
  'utf-16': (lines(GOOD, OTHER).decode().encode('utf-16'), 'UTF-8'),
  'half a character': (
    lines(GOOD, '{"id": "q1", "output": "\ud83d"}\n'),
    'line 2',
  ),
  'no id': (lines(GOOD, {'output': 'Hen'}), 'line 2'),
  'id is a number': (lines({'id': 0, 'output': ''}), 'line 1'),
  'id is null': (lines({'id': None, 'output': ''}), 'line 1'),
  'no output': (lines(GOOD, {'id': 'q1', 'answer': 'Hen'}), 'line 2'),
  'neither': (lines({'id': 'q1', 'answer': 'Hen'}), 'line 1'),
  'both': (lines({**GOOD, 'scores': [1, 2, 3, 4]}), 'line 1'),
  'both later': (lines(GOOD, {**OTHER, 'scores': [1, 2, 3, 4]}), 'line 2'),
  'other kind': (lines(GOOD, {'id': 'q1', 'scores': [1, 2, 3, 4]}), 'line 2'),
  'output is a number': (lines(GOOD, {'id': 'q1', 'output': 5}), 'line 2'),
  'output is null': (lines({'id': 'q1', 'output': None}), 'line 1'),
  'output is a list': (lines({'id': 'q1', 'output': ['Hen']}), 'line 1'),
  'key twice': (
    lines(GOOD, '{"id": "q1", "output": "a", "output": "b"}\n'),
    'line 2',
  ),
  'too few scores': (lines({'id': 'q0', 'scores': [1, 2, 3]}), 'line 1'),
  'no scores': (lines({'id': 'q0', 'scores': []}), 'line 1'),
  'scores are one': (lines({'id': 'q0', 'scores': 1.5}), 'line 1'),
  'scores are text': (lines({'id': 'q0', 'scores': ['1'] * 4}), 'line 1'),
  'a score is true': (lines({'id': 'q0', 'scores': [True, 1, 2, 3]}), 'line 1'),
  'a score is null': (lines({'id': 'q0', 'scores': [None, 1, 2, 3]}), 'line 1'),
  'NaN': (lines('{"id": "q0", "scores": [NaN, 1, 2, 3]}\n'), 'line 1'),
  'infinity': (lines('{"id": "q0", "scores": [-Infinity, 1, 2, 3]}\n'), 'line'),
  'large': (lines('{"id": "q0", "scores": [1e999, 1, 2, 3]}\n'), 'line 1'),
  'whole': (lines(f'{{"id": "q0", "scores": [1{"0" * 400}, 1, 2, 3]}}\n'), '1'),
  'deep': (lines(f'{{"id": "q0", "x": {"[" * 10**5}\n'), 'line 1'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_one_sentence(fault, data, tmp_path):
  text, where = FAULTS[fault]
  answers, items = tmp_path / 'answers.jsonl', tmp_path / 'items.jsonl'
  answers.write_bytes(text)
  status, out, err = run(
    *('--benchmark', 'aokvqa_mc', '--data', data, '--predictions', answers),
    *('--per_item', items, '--json'),
  )
  assert (status, out) == (2, '')
  assert err.startswith('mmicl: ') and err.count('\n') == 1
  assert 'answers.jsonl' in err and where in err
  assert not items.exists()


@pytest.mark.parametrize(
  'text',
  [
    lines(GOOD, OTHER).rstrip(),  # no newline at the end
    lines(GOOD, OTHER).replace(b'\n', b'\r\n'),
    b'\xef\xbb\xbf' + lines(GOOD, OTHER),
    lines({**GOOD, 'scores_of': None, 'prompt': {'a': []}}, OTHER),
    lines(
      {'id': 'q0', 'scores': [0, 1, 2, 2]}, {'id': 'q1', 'scores': [0, 0, 0, 1]}
    ),
  ],
  ids=['no end', 'CRLF', 'BOM', 'other keys', 'scores'],
)
def test_what_is_allowed(text, data, tmp_path):
  answers = tmp_path / 'answers.jsonl'
  answers.write_bytes(text)
  assert score('aokvqa_mc', data, answers)['metrics'] == {'accuracy': 100}


@pytest.mark.parametrize(
  'argv, what',
  [
    (('--benchmark', 'mnist'), 'mnist'),
    (('--mode', 'lavis'), 'lavis'),
    (('--mode', 'Official'), 'Official'),
    (('--data', 'nowhere'), 'nowhere'),
    (('--predictions', 'nowhere.jsonl'), 'nowhere.jsonl'),
    (('--predictions', '.'), '. could not be read'),
  ],
)
def test_what_does_not_exist_is_named(argv, what, data, tmp_path):
  answers = tmp_path / 'answers.jsonl'
  write_lines(answers, [GOOD, OTHER])
  given = {'--benchmark': 'aokvqa_mc', '--data': data, '--predictions': answers}
  given |= dict([argv])
  status, out, err = run(*(word for pair in given.items() for word in pair))
  assert (status, out, err.count('\n')) == (2, '', 1)
  assert what in err


def test_the_file_of_items_is_whole_or_not_there(data, tmp_path):
  answers, items = tmp_path / 'answers.jsonl', tmp_path / 'items.jsonl'
  write_lines(answers, [GOOD, {**OTHER, 'output': 'a\u2028b \ud83d'}])
  score('aokvqa_da', data, answers, '--per_item', items)
  assert items_of(items) == {
    'q0': {'id': 'q0', 'score': 1.0, 'parsed': 'a cow'},
    'q1': {'id': 'q1', 'score': 0.0, 'parsed': 'a\u2028b \ud83d'},
  }
  given = ('--benchmark', 'aokvqa_da', '--data', data, '--predictions', answers)
  [annotations, *_] = sorted(data.iterdir())
  theirs = tmp_path / 'theirs.txt'
  theirs.write_text('theirs')
  kept = {p: p.read_bytes() for p in (answers, annotations, theirs)}
  for path in (*kept, tmp_path / 'answers.jsonl' / 'items.jsonl'):
    status, out, err = run(*given, '--json', '--per_item', path)
    assert (status, out, err.count('\n')) == (2, '', 1)
  assert {p: p.read_bytes() for p in kept} == kept
  score('aokvqa_da', data, answers, '--per_item', items)  # ours is replaced


def test_people_get_a_table(data, tmp_path):
  answers = tmp_path / 'answers.jsonl'
  write_lines(answers, [GOOD])
  status, out, _ = run(
    *('--benchmark', 'aokvqa_mc', '--data', data, '--predictions', answers),
    '--allow_partial',
  )
  assert status == 0
  for text in ('aokvqa_mc, official: 1 item', 'coverage 50', 'accuracy'):
    assert text in out


def test_all_files_may_be_on_a_bucket(data, tmp_path):
  bucket = fsspec.filesystem('memory')
  for path in data.iterdir():
    bucket.pipe(f'/score/data/{path.name}', path.read_bytes())
  bucket.pipe('/score/answers.jsonl', lines(GOOD, OTHER))
  where = 'memory://score'
  given = (f'{where}/data', f'{where}/answers.jsonl')
  items = f'{where}/items.jsonl'
  got = score('aokvqa_mc', *given, '--per_item', items)
  assert got['metrics'] == {'accuracy': 100}
  assert bucket.cat('/score/items.jsonl').count(b'\n') == 2
  bucket.pipe('/score/answers.jsonl', lines(GOOD))
  status, _, err = run(
    *('--benchmark', 'aokvqa_mc', '--data', given[0]),
    *('--predictions', given[1]),
  )
  assert status == 2 and f'{where}/answers.jsonl has no prediction' in err
