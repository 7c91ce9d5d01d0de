"""What holds for every benchmark of the table, in every mode."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_cases import items_of, run, score
from small_benchmarks import SMALL, write_lines

from mmicl_jax.metrics.table import MODULES, scorer_of

KINDS = [
  (name, mode, kind)
  for name in MODULES
  for mode, kinds in scorer_of(name).modes.items()
  for kind in kinds
]
TEXTS = [(name, mode) for name, mode, kind in KINDS if kind == 'output']
RANKINGS = [(name, mode) for name, mode, kind in KINDS if kind == 'scores']


@pytest.fixture
def made(tmp_path):
  """Writes a small benchmark: (its folder, perfect predictions, best)."""

  def make(name, mode, kind):
    folder = tmp_path / 'data'
    folder.mkdir()
    small = SMALL[name](folder, mode)
    values = small.answers if kind == 'output' else small.scores
    lines = [{'id': one, kind: value} for one, value in values.items()]
    write_lines(tmp_path / 'answers.jsonl', lines)
    return folder, tmp_path / 'answers.jsonl', small.best

  return make


@pytest.mark.parametrize('name, mode, kind', KINDS)
def test_perfect_answers_reach_the_maximum(name, mode, kind, made, tmp_path):
  """Whatever the order of the lines."""
  data, answers, best = made(name, mode, kind)
  items = tmp_path / 'items.jsonl'
  more = ('--mode', mode, '--per_item', items)
  got = score(name, data, answers, *more)
  assert next(iter(got['metrics'])) in best
  for metric, value in best.items():
    if metric in got['metrics']:
      assert got['metrics'][metric] == pytest.approx(value), metric
  before = items.read_bytes()
  lines = answers.read_text(encoding='utf-8').splitlines()
  assert got['items'] == len(lines)
  random.Random(0).shuffle(lines)
  answers.write_text('\n'.join(lines), encoding='utf-8')
  assert score(name, data, answers, *more) == got
  assert items.read_bytes() == before


# Few examples: each is a whole file of predictions.
FEW = settings(max_examples=15, deadline=None)


def check(scored, names):
  """An item's score is 0 to 1, but for CIDEr."""
  assert scored.metrics
  most = math.inf if 'cider' in scored.metrics else 1
  assert all(0 <= item['score'] <= most for item in scored.per_item)
  assert all(math.isfinite(value) for value in scored.metrics.values())
  assert {item['id'] for item in scored.per_item} <= set(names)
  json.dumps([item.get('parsed') for item in scored.per_item])


@pytest.mark.parametrize('name, mode', TEXTS)
@FEW
@given(data=st.data())
def test_any_text_is_an_answer(name, mode, tmp_path_factory, data):
  folder = tmp_path_factory.mktemp('data')
  SMALL[name](folder, mode)
  scorer = scorer_of(name)
  annotations = scorer.read(folder)
  text = st.text(st.characters() | st.sampled_from('yes no.,\n20 '), max_size=9)
  outputs = {one: data.draw(text, one) for one in annotations.ids}
  check(scorer.score(annotations, outputs, mode), annotations.ids)


@pytest.mark.parametrize('name, mode', RANKINGS)
@FEW
@given(data=st.data())
def test_any_numbers_are_scores(name, mode, tmp_path_factory, data):
  folder = tmp_path_factory.mktemp('data')
  SMALL[name](folder, mode)
  scorer = scorer_of(name)
  annotations = scorer.read(folder)
  number = st.floats(-1e300, 1e300) | st.sampled_from([0.0, 0.5, 1.0])
  scores = {}
  for one in annotations.ids:
    count = annotations.candidates[one][-1]
    scores[one] = [data.draw(number) for _ in range(count)]
  check(scorer.score(annotations, scores, mode), annotations.ids)


ODD = (
  *('', ' ', '\n', '.', '图😀\u2028', '\ud83d', '\0', '9' * 5000, '²', '-1'),
  *('a b, ' * 2000, '("[{', '١', '\\', 'nan', '{}', "'"),
)


@pytest.mark.parametrize('name, mode', TEXTS)
def test_odd_answers_are_answers(name, mode, made, tmp_path):
  """They get finite metrics, below the best, and items get a score."""
  data, answers, best = made(name, mode, 'output')
  names = [
    json.loads(line)['id'] for line in answers.read_text('utf-8').splitlines()
  ]
  items = tmp_path / 'items.jsonl'
  for shift in range(0, len(ODD), min(len(names), len(ODD))):
    odd = [ODD[(i + shift) % len(ODD)] for i in range(len(names))]
    rows = [{'id': n, 'output': o} for n, o in zip(names, odd, strict=True)]
    write_lines(answers, rows)
    more = ('--mode', mode, '--per_item', items)
    got = score(name, data, answers, *more)
    assert got['items'] == len(names)
    headline, value = next(iter(got['metrics'].items()))
    assert value < best[headline]
    assert all(item['score'] >= 0 for item in items_of(items).values())


@pytest.mark.parametrize('name, mode, kind', KINDS)
def test_half_of_the_predictions_are_a_part(name, mode, kind, made):
  """The others are missed, or left out if that is allowed.

  Not one alone: the area under a curve needs both classes.
  """
  data, answers, _ = made(name, mode, kind)
  lines = answers.read_text(encoding='utf-8').splitlines(keepends=True)
  part = lines[len(lines) // 2 :]
  answers.write_text(''.join(part), encoding='utf-8')
  more = ('--mode', mode, '--allow_partial')
  got = score(name, data, answers, *more)
  assert got['coverage'] == len(part) / len(lines)
  assert got['items'] == len(part)
  status, out, err = run(
    *('--benchmark', name, '--data', data, '--predictions', answers),
    *('--mode', mode, '--json'),
  )
  assert (status, out) == (2, '') and '--allow_partial' in err


@pytest.mark.parametrize('name', MODULES)
def test_faulty_annotations_are_one_sentence(name, made):
  """Each file in turn is missing, no UTF-8, or of another format."""
  mode, [kind, *_] = next(iter(scorer_of(name).modes.items()))
  data, answers, _ = made(name, mode, kind)
  argv = ('--benchmark', name, '--data', data, '--predictions', answers)
  for path in [p for p in sorted(data.rglob('*')) if p.is_file()]:
    good = path.read_bytes()
    for bad in (b'\xff\xfe{', b'[[1, 2]]\n', b'', b'{"a": 1, "a": 2}'):
      path.write_bytes(bad)
      status, out, err = run(*argv)
      assert (status, out, err.count('\n')) == (2, '', 1), (path.name, bad)
      assert path.name in err
    path.write_bytes(good)
  assert run(*argv)[0] == 0
