"""docs/evaluation.md says what the scorers say."""

import importlib
import re

import build_deps
import pytest
from small_benchmarks import SMALL

from mmicl_jax.metrics.table import MODULES, scorer_of

TEXT = (build_deps.ROOT / 'docs/evaluation.md').read_text(encoding='utf-8')
ROWS = [
  [cell.strip(' `') for cell in line.strip('|').split('|')]
  for line in TEXT.splitlines()
  if re.match(r'\| `', line)
]
TABLE = [row for row in ROWS if set(row[0].split('`, `')) <= set(MODULES)]
BENCHMARKS = {name: row[-1] for row in TABLE for name in row[0].split('`, `')}
ANSWERS = [row for row in ROWS if row not in TABLE and len(row) == 6]


@pytest.mark.parametrize('name', MODULES)
def test_every_benchmark_stands_there_with_its_modes(name):
  assert BENCHMARKS[name].split(', ') == list(scorer_of(name).modes)


def understood(name, answer, mode, folder):
  """What the scorer understands of an answer that is given throughout."""
  answers = dict.fromkeys(SMALL[name](folder, mode).answers, answer)
  [scorer] = importlib.import_module(MODULES[name]).SCORERS
  scored = scorer.score(scorer.read(folder), answers, mode)
  return scored.per_item[0]['parsed']


def test_what_each_mode_understands(tmp_path):
  assert len(ANSWERS) > 5
  for answer, *cells in ANSWERS:
    assert cells == [
      understood('mme', answer, 'official', tmp_path),
      understood('mme', answer, 'lmms-eval', tmp_path),
      understood('mme', answer, 'vlmevalkit', tmp_path),
      understood('pope', answer, 'official', tmp_path),
      understood('pope', answer, 'lmms-eval', tmp_path),
    ], answer
