"""`mmicl compile`: the compiler's figures with libtpu, else the shardings'."""

import importlib.util
import itertools
import json
import math
import os
import pathlib
import types

import flax.linen as nn
import jax
import pytest

from mmicl_jax import __main__ as command
from mmicl_jax.commands.compile import lines
from mmicl_jax.compile import fits as cli
from mmicl_jax.compile import job, table
from mmicl_jax.compile.generation import programs
from mmicl_jax.cost.chips import parse_topology
from mmicl_jax.decoding.options import Options
from mmicl_jax.models.configs import TINY as TINY_MODEL
from mmicl_jax.models.configs import with_execution
from mmicl_jax.models.mmicl import abstract_params, example_batch

TINY = ['models/tiny.gin', 'stages/tune.gin']
BINDINGS = [
  *('INPUTS_LENGTH=16', 'TARGETS_LENGTH=4', 'MAX_IMAGES=1', 'BATCH_SIZE=4'),
  'presets.model.vocab_size=256',
]


def test_one_small_topology():
  report = cli.compile_run(TINY, BINDINGS, 'v5e:2x2')['step']
  assert report.mesh == {'data': 1, 'fsdp': 4, 'tensor': 1} and report.fits
  assert report.compiled == (importlib.util.find_spec('libtpu') is not None)
  if report.compiled:
    assert report.peak_bytes and report.collectives and report.mfu
    assert report.flops_ratio and 0.5 < report.flops_ratio < 2


def test_a_slice_may_be_one_chip():
  found = job.devices(parse_topology('v5e:1x1'))
  if found is None:
    pytest.skip('needs libtpu')
  assert len(found) == 1


@pytest.mark.parametrize('num_beams', [1, 3])
def test_generation_on_a_small_topology(num_beams):
  found = cli.compile_run(TINY, BINDINGS, 'v5e:2x2', num_beams=num_beams)
  if not found['prefill'].compiled:
    pytest.skip('needs libtpu')
  prefill, step = found['prefill'], found['step']
  assert prefill.flops_ratio and 0.5 < prefill.flops_ratio < 3
  # So small a step has sums in the place of products.
  assert step.fits and step.estimated_seconds and step.estimated_mfu
  assert step.model_flops < prefill.model_flops


@pytest.mark.slow
@pytest.mark.parametrize('num_beams', [1, 3])
@pytest.mark.parametrize('scan_layers', [True, False])
def test_a_step_of_generation_keeps_the_state(num_beams, scan_layers):
  model = with_execution(TINY_MODEL, scan_layers=scan_layers)
  options = Options(num_beams=num_beams, max_new_tokens=4)
  prefill, step = programs(model, options)
  params = nn.unbox(abstract_params(model))
  batch = jax.eval_shape(lambda: example_batch(model))
  prompt, state = jax.eval_shape(prefill, params, batch)
  assert jax.eval_shape(step, params, prompt, state) == state


def test_weights_of_generation_are_in_two_bytes():
  files = ['models/xxl.gin', 'stages/tune.gin']
  found = cli.compile_run(
    files, ['BATCH_SIZE=8'], 'v5e:2x4', shardings_only=True, num_beams=1
  )
  # 12.3 billion parameters of two bytes in 8 pieces.
  assert found['prefill'].argument_bytes == pytest.approx(3.08e9, rel=0.02)
  assert found['prefill'].fits and not found['prefill'].compiled


@pytest.mark.slow
def test_shardings_divide_the_state():
  """What is held falls with the chips; what does not fit is named."""
  files = ['models/xxl.gin', 'stages/tune.gin']
  one, eight = (
    cli.compile_run(files, ['BATCH_SIZE=8'], where, shardings_only=True)['step']
    for where in ('v5e:1x1', 'v5e:2x4')
  )
  assert not one.fits and eight.fits
  # 2 bytes a frozen parameter, 12 of 2.42 billion that train, in 8 pieces.
  assert one.argument_bytes / 2**30 == pytest.approx(45.3, rel=0.02)
  assert eight.argument_bytes == pytest.approx(one.argument_bytes / 8, rel=0.01)


def test_a_program_that_cannot_be_read_still_tells_its_memory():
  class Unreadable:
    def memory_analysis(self):
      sizes = {'argument': 3, 'output': 2, 'alias': 1, 'temp': 4}
      fields = {f'{name}_size_in_bytes': x for name, x in sizes.items()}
      return types.SimpleNamespace(**fields)

    def as_text(self):
      raise jax.errors.JaxRuntimeError('INTERNAL: another version')

  before = cli.compile_run(TINY, BINDINGS, 'v5e:2x2', shardings_only=True)[
    'step'
  ]
  found = job._read(Unreadable(), before, parse_topology('v5e:2x2'), 1.0)
  assert found.compiled and found.fits and found.peak_bytes == 8
  assert 'cannot be read: INTERNAL' in found.reason and found.mfu is None
  assert found.reason in lines(found)[0]


def test_the_command_says_that_it_did_not_compile(capsys):
  arguments = [f'--gin_file={file}' for file in TINY]
  arguments += [f'--gin.{binding}' for binding in BINDINGS]
  more = ['--topology', 'v5e:2x2', '--abstract']
  assert command.main(['compile', *arguments, *more]) == 0
  assert 'not compiled' in capsys.readouterr().out
  assert command.main(['compile', *arguments, *more, '--json']) == 0
  report = json.loads(capsys.readouterr().out)
  assert report['compiled'] is False and report['peak_bytes'] is None


@pytest.mark.parametrize(
  'arguments, match',
  [
    ([], 'nothing to compile'),
    (['--topology', 'v9:2x2'], 'known generations are v4'),
    (['--topology', 'v5e'], 'GENERATION:SHAPE'),
    (['--gin.BATCH_SIZE=6', '--topology', 'v5e:2x2'], 'use a multiple of 4'),
    (['--gin_file=meshes/v5e-16.gin'], 'needs 16 devices, but there are 8'),
    (['--gin.BATCH_SIZE=0'], 'BATCH_SIZE is 0'),
    (['--gin.INPUTS_LENGTH=0'], 'INPUTS_LENGTH is 0'),
    (['--gin.TARGETS_LENGTH=-1'], 'TARGETS_LENGTH is -1'),
    (['--gin.MAX_IMAGES=1.5'], '1.5'),
    (['--gin.MAX_IMAGES=99999999999'], 'MAX_IMAGES is 99999999999'),
    (["--gin.presets.model.dtype='bf16'"], "dtype is 'bf16': choose one of"),
    (
      ['--generate', '--num_beams=0', '--abstract', '--topology', 'v5e:2x2'],
      'num_beams',
    ),
    (['--table', 'x.md', '--only', 'nothing'], 'no row of the table'),
  ],
)
def test_mistakes_are_one_sentence(capsys, arguments, match):
  files = [f'--gin_file={file}' for file in TINY]
  bindings = [f'--gin.{binding}' for binding in BINDINGS]
  if arguments and '--table' not in arguments:
    arguments = [*files, *bindings, *arguments]
  assert command.main(['compile', *arguments]) == 2
  assert match in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_is_written_row_by_row(tmp_path):
  path = tmp_path / 'scaling.md'
  seen = []

  def run(*given, **options):
    seen.append(path.exists() and path.read_text().count('| XXL'))
    return cli.compile_run(*given, **options, shardings_only=True)

  table.write_scaling_page(str(path), 'v5e:2x4', run)
  lines = [x for x in path.read_text().splitlines() if x.startswith('| XXL')]
  times = [x for x in lines if 'state and batch alone' not in x]
  memory = [x for x in lines if x not in times]
  assert seen == list(range(0, len(lines), 2)) and len(times) == len(memory)
  assert '2 | v5e:2x4 | 1, 2, 4 | 8 | minimal | state and' in memory[0]
  assert '2 | v5e:2x4 | 1, 8, 1 | 8 | none | state and' in memory[4]
  assert memory[5].startswith('| XXL stage 1 |')
  assert times[-1].startswith(
    '| XXL 4 beams, prefill | v5e:2x4 | 1, 1, 8 | 8 |'
  )
  for line, above in itertools.pairwise(path.read_text().splitlines()):
    if line[:1] == above[:1] == '|':
      assert line.count('|') == above.count('|')


class Crashing(list):
  """Ends the process that unpickles it."""

  def __reduce__(self):
    return os.abort, ()


@pytest.mark.slow
def test_a_compiler_that_crashes_costs_its_row_alone():
  found = cli.compile_apart(Crashing(TINY), BINDINGS, 'v5e:2x2')['step']
  assert not found.compiled and found.argument_bytes
  assert found.reason.startswith('the compiler crashed; state and batch')
  found = cli.compile_apart(TINY, BINDINGS, 'v5e:2x2')['step']
  assert 'crashed' not in found.reason


def test_every_row_divides_its_slice():
  for row in table.ROWS:
    assert parse_topology(row.topology).chips == math.prod(row.mesh)


def test_the_readme_says_what_the_page_says():
  root = pathlib.Path(__file__).parents[2]

  def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]

  compiled = {}
  for line in (root / 'docs/scaling.md').read_text().splitlines():
    if ' stage 2 |' in line and len(cells(line)) == 13:  # those of memory
      name, *key, fits, peak, _, _, _, _, ratio, _ = cells(line)
      compiled[name.removesuffix(' stage 2'), *key] = fits, peak, ratio
  shown = 0
  for line in (root / 'README.md').read_text().splitlines():
    if line.startswith(('| XXL | v', '| XL | v')):
      *key, peak, ratio = cells(line)
      size, memory = peak.split(' of ')
      assert compiled[tuple(key)] == ('yes', size, ratio), line
      assert parse_topology(key[1]).chip.hbm_bytes == int(memory) << 30
      shown += 1
  assert shown > 3
