"""The page of benchmarks says what was measured; no time is tested."""

import json

import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.bench import page


def row(case, ours, theirs, target=None, bfloat16=None):
  sides = {'ours': ours, 'theirs': theirs}
  if bfloat16:
    sides |= {'ours_bfloat16': bfloat16[0], 'theirs_bfloat16': bfloat16[1]}
  return {
    'size': 'small',
    'case': case,
    'seconds': sides,
    'ratio_in_bfloat16': (
      min(bfloat16[1]) / min(bfloat16[0]) if bfloat16 else None
    ),
    'ratio_of_medians': 2.0,
    'ratio_of_minima': min(theirs) / min(ours),
    'target': target,
  }


ROWS = [
  row('encode, 1 image', [1.0, 2.0], [2.0, 5.0], 1.5),
  row(
    'generate, batch 8', [1.0, 1.0], [1.9, 3.0], 2.0, ([2.0, 2.0], [1.8, 4.0])
  ),
  row('stage-2 step', [1.0], [3.0]),
]


def test_targets_are_met_by_minima():
  part = page.BenchPart('generate', ROWS, '| a table |')
  found = {r['case']: (r['reached'], r['met']) for r in page.targets([part])}
  assert found == {
    'encode, 1 image': ('2.00x', 'yes'),
    'generate, batch 8': ('1.90x', '**no**'),
    'generate, batch 8, bfloat16': ('0.90x', '**no**'),
  }
  text = page.benchmark_page(
    [part],
    machine='2 cores of a CPU',
    versions='jax 1',
    date='2026-11-26',
    command='mmicl bench all',
    plot='page.svg',
  )
  assert '1 of 3 targets are met' in text and '| a table |' in text
  assert 'on 2026-11-26, on 2 cores of a CPU; jax 1' in text


def test_the_spread_is_of_rounds():
  assert page.ratio_span([1.0, 2.0], [2.0, 5.0]) == (7 / 3, 2.0, 2.5)


def test_every_case_is_drawn():
  pytest.importorskip('matplotlib')
  part = page.BenchPart('generate', ROWS, '')
  picture = page.ratio_plot([part]).decode()
  assert picture == page.ratio_plot([part]).decode()
  for one in ROWS:
    assert f'small: {one["case"]}' in picture
  assert '>2.45x<' in picture and '>1.45x<' in picture  # its bfloat16, too
  assert page.MET in picture and page.MISSED in picture


def test_a_page_needs_a_place_and_known_parts(tmp_path, capsys):
  assert main(['bench', 'all']) == 2
  assert '--out PAGE.md' in capsys.readouterr().err
  out = ['--out', str(tmp_path / 'page.md')]
  assert main(['bench', 'all', *out, '--parts', 'speed']) == 2
  assert "'speed'" in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_writes_page_picture_and_numbers(tmp_path, capsys):
  pytest.importorskip('transformers')
  pytest.importorskip('matplotlib')
  arguments = ['bench', 'all', '--out', str(tmp_path / 'docs' / 'page.md')]
  arguments += ['--sizes', 'tiny', '--rounds', '1', '--images', '1']
  arguments += ['--parts', 'generate', '--kinds', 'encode', '--no_bfloat16']
  assert main(arguments) == 0
  text = (tmp_path / 'docs' / 'page.md').read_text()
  assert '| tiny | encode, 1 image |' in text and '(page.svg)' in text
  assert (tmp_path / 'docs' / 'page.svg').read_bytes().startswith(b'<?xml')
  found = json.loads((tmp_path / 'docs' / 'page.json').read_text())
  (only,) = found['results']['generate']
  assert only['case'] == 'encode, 1 image' and found['date'] in text
