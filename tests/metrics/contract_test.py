"""Recorded outputs of the official programs and of harnesses, reproduced."""

import pytest
from score_cases import CASES, case_of, data_of, expected_of, items_of, score

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.lemmas import Lemmatizer
from mmicl_jax.metrics.wordnet import word_net

RUNS = [(folder, mode) for folder in CASES for mode in expected_of(folder)]


@pytest.mark.skipif(not CASES, reason='the recorded cases are not here')
@pytest.mark.parametrize(
  'folder, mode',
  RUNS,
  ids=[f'{f.parts[-3]}-{f.name}-{mode}' for f, mode in RUNS],
)
def test_a_recorded_case_comes_out_again(folder, mode, tmp_path):
  case, expected = case_of(folder), expected_of(folder)[mode]
  if case.get('needs') == 'wordnet':
    try:
      Lemmatizer(word_net(), {})
    except UserError as error:
      pytest.skip(str(error))
  close = pytest.approx
  tolerance = case.get('tolerance', 1e-6)
  (tmp_path / 'data').mkdir()
  got = score(
    case['benchmark'],
    data_of(folder, tmp_path / 'data'),
    folder / case['predictions'],
    *('--mode', mode, '--per_item', tmp_path / 'items.jsonl'),
    *case.get('args', ()),
  )
  assert got['benchmark'] == case['benchmark'] and got['mode'] == mode
  assert got['items'] == expected['items']
  optional = expected.get('optional', ())
  for name, value in expected['metrics'].items():
    if name in got['metrics'] or name not in optional:
      limit = max(tolerance, 1e-4) if name.endswith('meteor') else tolerance
      assert got['metrics'][name] == close(value, abs=limit, rel=0), name
  assert not set(expected.get('absent', ())) & set(got['metrics'])
  assert bool(got['notes']) or not expected.get('notes')
  if 'coverage' in expected:
    assert got['coverage'] == close(expected['coverage'], abs=1e-6)
  items = items_of(tmp_path / 'items.jsonl')
  for name, wanted in expected.get('per_item', {}).items():
    for key, value in wanted.items():
      if isinstance(value, float):
        assert items[name][key] == close(value, abs=tolerance, rel=0), name
      else:
        assert items[name][key] == value, (name, key)
