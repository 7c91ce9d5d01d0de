"""The reader of HLO text, on programs compiled here and on hand-made lines."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmicl_jax.compile import cost, hlo, traffic
from mmicl_jax.cost.chips import parse_topology

# As the TPU compiler writes it: a loop whose fused body multiplies a slice of
# stacked weights, a product as a convolution, an asynchronous collective.
TEXT = Path(__file__).with_name('step.hlo').read_text()
# As it hides an all-gather behind a computation, and prefetches its operand.
CHAIN = Path(__file__).with_name('chain.hlo').read_text()


def test_a_loop_counts_as_often_as_it_runs():
  found = cost.analyse(TEXT)
  assert found.flops == 3 * 2 * 4 * 8 * 16
  # A ring of four: each chip sends 2 x 3/4 of the sum's bytes.
  assert found.collectives == {'all-reduce': 3 * 2 * 3 / 4 * 4 * 16 * 2}
  assert found.collective_counts == {'all-reduce': 3}


@pytest.mark.parametrize(('by', 'times'), [(1, 3), (2, 2), (3, 1)])
def test_a_loop_that_was_unrolled_runs_less_often(by, times):
  """So the compiler writes a gather over eight chips beside a product."""
  unrolled = TEXT.replace(
    'tuple(%i, %ws, %x)\n}',
    f"""tuple(%next, %ws, %x)
  %by = s32[] constant({by})
  %next = s32[] add(%i, %by)
}}""",
  )
  assert cost.analyse(unrolled).flops == times * 2 * 4 * 8 * 16


def test_a_fusion_reads_only_its_slice_of_stacked_weights():
  computations, _ = hlo.parse_program(TEXT)
  body = computations['body']
  slice_, scalar, x, y = 8 * 16 * 2, 4, 4 * 8 * 2, 4 * 16 * 2
  moved = traffic.moved(body['f'], body, computations)
  assert moved == slice_ + scalar + x + y


def test_slices_are_found_in_nested_fusions():
  nested = TEXT.replace(
    '  %w = bf16[8,16]{1,0:T(8,128)(2,1)} bitcast(%one)\n', ''
  ).replace(
    '  %one = bf16[1,8,16]{2,1,0:T(8,128)(2,1)} dynamic-slice('
    '%p.0, %p.1, %zero, %zero), dynamic_slice_sizes={1,8,16}\n',
    '  %w = bf16[8,16]{1,0} fusion(%p.0, %p.1), kind=kLoop, calls=%inner\n',
  )
  assert nested.count('\n') == TEXT.count('\n') - 1
  inner = """%inner (q.0: bf16[3,8,16], q.1: s32[]) -> bf16[8,16] {
  %q.0 = bf16[3,8,16]{2,1,0} parameter(0)
  %b = bf16[3,8,16]{2,1,0} bitcast(%q.0)
  %q.1 = s32[] parameter(1)
  %z = s32[] constant(0)
  %one = bf16[1,8,16]{2,1,0} dynamic-slice(%b, %q.1, %z, %z)
  ROOT %w = bf16[8,16]{1,0} bitcast(%one)
}

"""
  nested = nested.replace('%fused (', inner + '%fused (')
  assert cost.analyse(nested) == cost.analyse(TEXT)


def test_a_collective_behind_several_fusions_counts_once():
  """Its buffers are written once; what is on the chip (S(1)) is not HBM."""
  found = cost.analyse(CHAIN)
  shard, whole, x = 8 * 16 * 2, 32 * 16 * 2, 4 * 8 * 2
  assert found.collectives == {'all-gather': 3 * shard}
  assert found.collective_counts == {'all-gather': 1}
  assert found.hbm_bytes == shard + whole + 2 * x


def test_a_reduce_scatter_is_half_an_all_reduce():
  """The TPU compiler writes it as an all-reduce of which a slice is kept."""
  text = """%all-reduce-scatter (input: bf16[32,16]) -> bf16[8,16] {
  %input = bf16[32,16]{1,0} parameter(0)
  %sum = bf16[32,16]{1,0} all-reduce(%input), channel_id=1, \
replica_groups=[1,4]<=[4], to_apply=%add
  %place = s32[] constant(0)
  ROOT %slice = bf16[8,16]{1,0} dynamic-slice(%sum, %place, %place), \
dynamic_slice_sizes={8,16}
}

ENTRY %main (x: bf16[32,16]) -> bf16[8,16] {
  %x = bf16[32,16]{1,0} parameter(0)
  ROOT %y = bf16[8,16]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter
}
"""
  found = cost.analyse(text)
  assert found.collectives == {'reduce-scatter': 32 * 16 * 2 * 3 / 4}
  assert found.collective_counts == {'reduce-scatter': 1}
  assert found.alone_bytes == sum(found.collectives.values())


def one_fusion(*lines: str, result: str, more: str = '') -> str:
  """A program of one fusion, p.0 of which is a stack of three in HBM."""
  body = '\n'.join(f'  {line}' for line in lines)
  return f"""{more}%fused (p.0: bf16[3,8,16], p.1: s32[]) -> {result} {{
  %p.0 = bf16[3,8,16]{{2,1,0:T(8,128)}} parameter(0)
  %p.1 = s32[] parameter(1)
  %zero = s32[] constant(0)
{body}
}}

ENTRY %main (ws: bf16[3,8,16], i: s32[]) -> {result} {{
  %ws = bf16[3,8,16]{{2,1,0:T(8,128)}} parameter(0)
  %i = s32[] parameter(1)
  ROOT %y = {result} fusion(%ws, %i), kind=kLoop, calls=%fused
}}
"""


RENAMED = """%copy_fusion (q: bf16[3,8,16]) -> bf16[3,8,16] {
  %q = bf16[3,8,16]{2,1,0:T(8,128)} parameter(0)
  ROOT %copy = bf16[3,8,16]{2,1,0:T(4,128)} copy(%q)
}

"""
RENAMING = (
  '%again = bf16[3,8,16]{2,1,0:T(4,128)} fusion(%p.0), kind=kLoop, '
  'output_to_operand_aliasing={{}: (0, {})}, calls=%copy_fusion'
)
SLICE, SCALAR = 8 * 16 * 2, 4


def test_a_second_name_of_a_stack_is_not_its_copy():
  """The TPU compiler renames a buffer by a fusion within the fusion."""
  one = (
    'dynamic-slice(%again, %p.1, %zero, %zero), dynamic_slice_sizes={1,8,16}'
  )
  read = one_fusion(
    RENAMING,
    f'ROOT %one = bf16[1,8,16]{{2,1,0}} {one}',
    result='bf16[1,8,16]{2,1,0}',
    more=RENAMED,
  )
  assert cost.analyse(read).hbm_bytes == 2 * SLICE + SCALAR
  written = one_fusion(
    RENAMING,
    '%new = bf16[1,8,16]{2,1,0} broadcast(%zero), dimensions={}',
    'ROOT %all = bf16[3,8,16]{2,1,0} '
    'dynamic-update-slice(%again, %new, %p.1, %zero, %zero)',
    result='bf16[3,8,16]{2,1,0}',
    more=RENAMED,
  )
  assert cost.analyse(written).hbm_bytes == SLICE + SCALAR


def test_a_fusion_that_only_names_its_operand_copies_it():
  text = one_fusion(
    'ROOT %flat = bf16[384]{0} bitcast(%p.0)', result='bf16[384]{0}'
  )
  assert cost.analyse(text).hbm_bytes == 2 * 3 * SLICE


@pytest.mark.parametrize(
  'target, moved', [('AllocateBuffer', 0), ('Mosaic', 2 * 3 * SLICE)]
)
def test_a_call_that_gives_room_moves_nothing(target, moved):
  text = f"""ENTRY %main (ws: bf16[3,8,16]) -> bf16[3,8,16] {{
  %ws = bf16[3,8,16]{{2,1,0}} parameter(0)
  ROOT %y = bf16[3,8,16]{{2,1,0}} custom-call(%ws), \
custom_call_target="{target}"
}}
"""
  assert cost.analyse(text).hbm_bytes == moved


def test_the_estimated_cycles_of_a_loop_and_what_is_sent_alone():
  cycles = ', backend_config={"window_config":{"estimated_cycles":"700"}}'
  estimated = TEXT.replace('calls=%fused\n', f'calls=%fused{cycles}\n')
  found = cost.analyse(estimated)
  assert found.cycles == 3 * 700
  assert found.alone_bytes == 0  # a start and an end: something runs between
  waited = estimated.replace('all-reduce-start(', 'all-reduce(')
  assert cost.analyse(waited).alone_bytes == 3 * 2 * 3 / 4 * 4 * 16 * 2
  assert cost.analyse(CHAIN).alone_bytes == 0  # within a fusion that computes


@pytest.mark.parametrize(
  'topology, share',
  [
    ('v5e:1x1', 0),
    ('v5e:2x2', 2 / 4),
    ('v5e:4x8', 2 / 4),
    ('v5e:16x16', 4 / 4),
    ('v4:2x2x1', 2 / 6),
    ('v5p:4x4x4', 6 / 6),
    ('v5p:2x4x4', 3 / 6),
  ],
)
def test_a_slice_sends_over_the_links_that_it_has(topology, share):
  found = parse_topology(topology)
  assert found.ici_bandwidth == share * found.chip.ici_bandwidth


def test_the_trip_count_that_the_compiler_noted_wins():
  noted = TEXT.replace(
    'body=%body',
    'body=%body, backend_config={"known_trip_count":{"n":"5"}}',
  )
  assert cost.analyse(noted).flops == 5 * 2 * 4 * 8 * 16


@pytest.mark.parametrize(
  'size, kernel, output, window, expected',
  [
    (5, 3, 3, {}, 9),
    (5, 3, 5, {'pad': (1, 1)}, 13),
    (4, 1, 2, {'stride': (2,)}, 2),
    # How a batch dimension is written as a window: one place each.
    (8, 8, 8, {'stride': (7,), 'lhs_dilate': (8,), 'pad': (0, 0)}, 8),
  ],
)
def test_padding_is_not_counted(size, kernel, output, window, expected):
  assert cost._positions(size, kernel, output, window) == expected


@pytest.mark.parametrize(
  'groups, size',
  [
    ('{{0,1,2},{3,4,5}}', 3),
    ('[2,4]<=[8]', 4),
    ("mesh['a'=2,'b'=4] {'a','b'}", 8),
    ("mesh['a'=8] {'a':(2)4}", 4),
  ],
)
def test_the_size_of_a_group(groups, size):
  assert cost._group_size(f'channel_id=1, replica_groups={groups}, x=1') == size


def test_a_program_compiled_here():
  def f(ws, x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]

  shapes = jnp.zeros((5, 16, 16)), jnp.zeros((8, 16))
  text = jax.jit(f).lower(*shapes).compile().as_text()
  assert cost.analyse(text).flops == 5 * 2 * 8 * 16 * 16


@pytest.mark.slow
@pytest.mark.devices(4)
def test_collectives_of_a_program_compiled_here():
  mesh = jax.make_mesh((4,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec('x'))
  whole = NamedSharding(mesh, PartitionSpec())
  place = jax.ShapeDtypeStruct((64,), jnp.float32, sharding=split)
  gather = jax.jit(lambda x: x + 1, out_shardings=whole)
  found = cost.analyse(gather.lower(place).compile().as_text())
  assert found.collectives == {'all-gather': 3 * 16 * 4}
