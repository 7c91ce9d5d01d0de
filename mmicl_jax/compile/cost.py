"""What one run of a compiled program costs, read from its HLO text.

XLA's own cost analysis counts the body of a loop once, but our layers run in
loops. Here each instruction counts as often as its loops run it.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence

from mmicl_jax.compile.hlo import (
  Instruction,
  array_shapes,
  estimated_cycles,
  nbytes,
  parse_program,
  reached,
)
from mmicl_jax.compile.traffic import COLLECTIVES, moved

_REDUCE_SCATTER = 'all-reduce-scatter'  # a computation of the TPU compiler


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one run of a program costs one device.

  flops: of matrix products and convolutions. hbm_bytes: what instructions
  outside fusions read from HBM and write to it. collectives: bytes that a chip
  sends, by kind. collective_counts: how many run, by kind. alone_bytes: of the
  bytes sent, those of collectives that no computation runs beside. cycles: the
  TPU compiler's estimate of all instructions' time, without collectives.
  """

  flops: float
  hbm_bytes: float
  collectives: Mapping[str, float]
  collective_counts: Mapping[str, int]
  alone_bytes: float
  cycles: int


def analyse(text: str) -> Cost:
  """Reads the text of an optimised HLO module: `compiled.as_text()`."""
  computations, entry = parse_program(text)
  flops = traffic = alone = 0.0
  cycles = 0
  sent: dict[str, float] = collections.defaultdict(float)
  counts: collections.Counter = collections.Counter()
  seen: set[tuple[str, str]] = set()
  for name, times, holder in reached(computations, entry):
    body = computations[name]
    for each in body.values():
      if each.opcode in ('dot', 'convolution'):
        flops += times * _product_flops(each, body)
      kind = each.opcode.removesuffix('-start')
      if kind == 'all-reduce' and name.startswith(_REDUCE_SCATTER):
        # The TPU compiler's form of it: each chip keeps a slice of the sum.
        kind = 'reduce-scatter'
      if kind in COLLECTIVES and not _repeated(each, holder, seen):
        size = times * _sent(kind, each, body)
        sent[kind] += size
        counts[kind] += times
        alone += size if _alone(each, name, holder) else 0.0
      if holder is None:
        traffic += times * moved(each, body, computations)
        cycles += times * estimated_cycles(each)
  return Cost(flops, traffic, dict(sent), dict(counts), alone, cycles)


def _alone(each: Instruction, computation: str, holder: str | None) -> bool:
  """Whether a collective is waited for, with nothing computed meanwhile.

  The TPU compiler puts what it overlaps into one fusion with a computation, or
  splits it into a start and an end. Its fusions named all-reduce-scatter hold
  nothing else.
  """
  if each.opcode.endswith('-start'):
    return False
  return holder is None or computation.startswith(_REDUCE_SCATTER)


def _repeated(
  each: Instruction, holder: str | None, seen: set[tuple[str, str]]
) -> bool:
  """Whether this is one more piece of a collective that was counted before.

  XLA may overlap a collective with several fusions in a row. Each of them names
  it again, with the same channel.
  """
  channel = re.search(r'channel_id=(\d+)', each.attributes)
  if holder is None or channel is None:
    return False
  key = holder, channel[1]
  if key in seen:
    return True
  seen.add(key)
  return False


def _product_flops(each: Instruction, body: Mapping[str, Instruction]) -> float:
  """Two FLOPs for each product of two numbers, except those with padding."""
  (_, output), *_ = array_shapes(each.type)
  left, right = (
    array_shapes(body[name].type)[0][1] for name in each.operands[:2]
  )
  if each.opcode == 'dot':
    contracted = re.search(
      r'lhs_contracting_dims=\{([\d,]*)\}', each.attributes
    )
    dims = [int(d) for d in contracted[1].split(',') if d] if contracted else []
    return 2.0 * math.prod(output) * math.prod(left[d] for d in dims)
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', each.attributes)
  if labels is None:
    return 0.0
  ins, kernel, outs = labels.groups()
  total = 2.0 * right[kernel.index('i')]
  total *= output[outs.index('b')] * output[outs.index('f')]
  window = _window(each.attributes)
  for i, digit in enumerate(d for d in outs if d.isdigit()):
    total *= _positions(
      left[ins.index(digit)],
      right[kernel.index(digit)],
      output[outs.index(digit)],
      {key: values[i] for key, values in window.items()},
    )
  groups = re.search(r'batch_group_count=(\d+)', each.attributes)
  return total / (int(groups[1]) if groups else 1)


def _window(attributes: str) -> dict[str, Sequence[tuple[int, ...]]]:
  found = re.search(r'window=\{([^}]*)\}', attributes)
  fields = found[1].split() if found else []
  return {
    key: [tuple(map(int, part.split('_'))) for part in value.split('x')]
    for key, _, value in (field.partition('=') for field in fields)
  }


def _positions(
  size: int, kernel: int, output: int, window: Mapping[str, tuple[int, ...]]
) -> int:
  """Counts pairs of kernel and output positions that meet an input element."""
  stride = window.get('stride', (1,))[0]
  low = window.get('pad', (0, 0))[0]
  dilated = window.get('lhs_dilate', (1,))[0]
  spread = window.get('rhs_dilate', (1,))[0]
  if kernel == 1 and low == 0 and dilated == 1:
    return sum(o * stride < size for o in range(output))
  reach = (size - 1) * dilated
  return sum(
    0 <= place <= reach and place % dilated == 0
    for place in (
      o * stride + k * spread - low
      for o, k in itertools.product(range(output), range(kernel))
    )
  )


def _sent(kind: str, each: Instruction, body) -> float:
  """Bytes that a chip sends if the chips of a group form a ring."""
  size = _group_size(each.attributes)
  operands = sum((nbytes(body[name].type) for name in each.operands), 0.0)
  share = (size - 1) / size
  if kind == 'all-gather':
    return operands * (size - 1)
  if kind == 'all-reduce':
    return 2 * operands * share
  return operands * share if kind != 'collective-permute' else operands


def _group_size(attributes: str) -> int:
  """The chips of a group, which HLO writes as list, table or axes of a mesh."""
  if found := re.search(r'replica_groups=\{\{([\d,]*)\}', attributes):
    return len(found[1].split(','))
  if found := re.search(r'replica_groups=\[\d+,(\d+)\]', attributes):
    return int(found[1])
  if found := re.search(r'replica_groups=mesh\[(.*?)\] *\{(.*?)\}', attributes):
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", found[1]))
    # A whole axis is 'name'; a part of one is 'name':(size before it)size.
    axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", found[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  return 2
