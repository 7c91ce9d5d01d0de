"""Annotations with a missing or wrong value are refused, and crash nothing."""

import csv
import io
import json

import pytest
from small_benchmarks import SMALL

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.predictions import read_predictions
from mmicl_jax.metrics.table import MODULES, scorer_of

GONE = object()
VALUES = (GONE, None, -1, 'x', [], [None], {'a': 0})


def paths_of(value, so_far=()):
  """Where values stand, one for each kind of place: of a list, the first."""
  children = []
  if isinstance(value, dict):
    children = list(value.items())
    if len(children) > 4 and all(isinstance(v, dict) for _, v in children):
      children = children[:1]
  elif isinstance(value, list):
    children = list(enumerate(value))[:1]
  for key, child in children:
    yield (*so_far, key)
    yield from paths_of(child, (*so_far, key))


def changed(value, path, new):
  """The value with another one at a place, or with none there."""
  if not path:
    return new
  first, *rest = path
  copy = value.copy()
  if new is GONE and not rest:
    del copy[first]
  else:
    copy[first] = changed(value[first], rest, new)
  return copy


def variants(path):
  """Texts of an annotation file, each with one fault."""
  text = path.read_text(encoding='utf-8')
  if path.suffix in ('.csv', '.tsv'):
    mark = ',' if path.suffix == '.csv' else '\t'
    rows = list(csv.reader(io.StringIO(text), delimiter=mark))
    for column in range(len(rows[0])):
      for cell in (None, '', 'x', '-1', '99', '1.5', 'nan'):
        faulty = [row.copy() for row in rows]
        if cell is None:
          for row in faulty:
            del row[column]
        else:
          faulty[1][column] = cell
        out = io.StringIO()
        csv.writer(out, delimiter=mark).writerows(faulty)
        yield out.getvalue()
  elif path.suffix in ('.json', '.jsonl'):
    try:
      value = json.loads(text)
    except ValueError:  # JSON Lines
      value, *others = (json.loads(line) for line in text.splitlines())
    else:
      others = []
    for place in paths_of(value):
      for new in VALUES:
        rows = [changed(value, place, new), *others]
        yield '\n'.join(json.dumps(row) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize('name', MODULES)
def test_a_wrong_value_is_refused_or_does_not_matter(name, tmp_path):
  """The sentence names the file."""
  scorer, data = scorer_of(name), tmp_path / 'data'
  mode, [kind, *_] = next(iter(scorer.modes.items()))
  data.mkdir()
  small = SMALL[name](data, mode)
  values = small.answers if kind == 'output' else small.scores
  lines = [json.dumps({'id': key, kind: v}) for key, v in values.items()]
  answers = tmp_path / 'answers.jsonl'
  answers.write_text('\n'.join(lines), encoding='utf-8')
  refused = 0
  for path in [p for p in sorted(data.rglob('*')) if p.suffix != '.txt']:
    good = path.read_bytes() if path.is_file() else None
    for text in variants(path) if good else ():
      path.write_text(text, encoding='utf-8')
      try:
        annotations = scorer.read(data)
        predictions = read_predictions(answers, annotations, [kind], True)
        scorer.score(annotations, predictions, mode)
      except UserError as error:
        refused += 1
        assert path.name in str(error) or answers.name in str(error), text
      except Exception as error:
        raise AssertionError(f'{path.name}: {text[:300]}') from error
    if good:
      path.write_bytes(good)
  assert refused or name == 'mme'
