"""What a compiled program does, read from its HLO text.

XLA's own cost analysis counts the body of a loop once, and the layers run in
loops: here each instruction counts as often as its loops run it.
"""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
BITS = {'pred': 8, 'bf16': 16, 'token': 0}
# They name, pack or reinterpret values; no byte moves.
FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while'),
  *('conditional', 'call', 'after-all', 'partition-id', 'async-start'),
  *('async-done', 'async-update', 'copy-start', 'opt-barrier', 'iota'),
}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of HLO: name = type opcode(operands), attributes."""

  name: str
  type: str
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  literal: str  # what stands in the parentheses


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one device and one run of the program.

  flops: of matrix products and convolutions. hbm_bytes: read and written by
  instructions outside fusions, an upper estimate, since a compiler may keep
  values in on-chip memory. collectives: bytes a chip sends, by kind.
  """

  flops: float
  hbm_bytes: float
  collectives: Mapping[str, float]
  collective_counts: Mapping[str, int]


def analyse(text: str) -> Cost:
  """Reads the text of an optimised HLO module (`compiled.as_text()`)."""
  computations, entry = parse(text)
  flops = moved = 0.0
  sent: dict[str, float] = collections.defaultdict(float)
  counts: collections.Counter = collections.Counter()
  for name, times, fused in _reached(computations, entry):
    body = computations[name]
    for each in body.values():
      if each.opcode in ('dot', 'convolution'):
        flops += times * _product_flops(each, body)
      kind = each.opcode.removesuffix('-start')
      if kind in COLLECTIVES:
        sent[kind] += times * _sent(kind, each, body)
        counts[kind] += times
      if not fused and each.opcode not in FREE:
        moved += times * _moved(each, body, computations)
  return Cost(flops, moved, dict(sent), dict(counts))


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
  """Computations by name, each its instructions by name; and the entry's."""
  computations: dict[str, dict[str, Instruction]] = {}
  entry, body = '', {}
  for line in text.splitlines():
    if line and not line[0].isspace() and line.rstrip().endswith('{'):
      match = re.match(r'(ENTRY )?%?([\w.\-]+)', line)
      if match and match[2] != 'HloModule':
        body = computations.setdefault(match[2], {})
        entry = match[2] if match[1] else entry
    elif ' = ' in line and line[0].isspace():
      each = _instruction(line)
      body[each.name] = each
  return computations, entry


def trip_count(
  loop: Instruction, computations: Mapping[str, Mapping[str, Instruction]]
) -> int:
  """How often a while loop runs; 1 where the program does not say."""
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if known:
    return int(known[1])
  condition = computations[_called(loop.attributes, 'condition')[0]]
  limits = [
    int(each.literal)
    for each in condition.values()
    if each.opcode == 'constant' and each.literal.isdigit()
  ]
  return max(limits, default=1)


def _reached(computations, entry) -> Iterator[tuple[str, int, bool]]:
  """(computation, how often it runs, whether it is within a fusion)."""
  waiting = [(entry, 1, False)]
  while waiting:
    name, times, fused = waiting.pop()
    yield name, times, fused
    for each in computations[name].values():
      if each.opcode == 'while':
        count = times * trip_count(each, computations)
        waiting += [
          (body, count, fused) for body in _called(each.attributes, 'body')
        ]
      elif each.opcode in ('fusion', 'call', 'async-start', 'conditional'):
        inner = fused or each.opcode == 'fusion'
        names = _called(
          each.attributes,
          'calls|to_apply|branch_computations|true_computation'
          '|false_computation|called_computations',
        )
        waiting += [(called, times, inner) for called in names]


def _called(attributes: str, keys: str) -> list[str]:
  names: list[str] = []
  for found in re.finditer(
    rf'\b(?:{keys})=(?:\{{([^}}]*)\}}|%?([\w.\-]+))', attributes
  ):
    listed = found[1] if found[1] is not None else found[2]
    names += [name.strip().lstrip('%') for name in listed.split(',')]
  return names


def _instruction(line: str) -> Instruction:
  left, _, right = line.strip().partition(' = ')
  name = left.removeprefix('ROOT ').lstrip('%')
  end = _closing(right, 0) if right[0] == '(' else right.index(' ')
  type_, rest = right[:end], right[end:].strip()
  opcode, _, _ = rest.partition('(')
  close = _closing(rest, len(opcode))
  inside = rest[len(opcode) + 1 : close - 1]
  operands = tuple(re.findall(r'%([\w.\-]+)', inside))
  return Instruction(name, type_, opcode, operands, rest[close:], inside)


def _closing(text: str, start: int) -> int:
  """The position behind the parenthesis that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == '(') - (text[i] == ')')
    if not depth:
      return i + 1
  return len(text)


def _shapes(type_: str) -> list[tuple[str, tuple[int, ...]]]:
  """Each array of a type: its element type and its dimensions."""
  return [
    (kind, tuple(int(d) for d in dims.split(',') if d))
    for kind, dims in re.findall(r'\b([a-z]+\d*\w*)\[([\d,]*)\]', type_)
  ]


def _bytes(type_: str) -> float:
  return sum(
    (math.prod(dims) * _bits(kind) / 8 for kind, dims in _shapes(type_)), 0.0
  )


def _bits(kind: str) -> int:
  if kind in BITS:
    return BITS[kind]
  digits = re.search(r'\d+', kind)
  return int(digits[0]) if digits else 0


def _product_flops(each: Instruction, body: Mapping[str, Instruction]) -> float:
  """2 x output elements x products each; padding does not count."""
  (_, output), *_ = _shapes(each.type)
  left, right = (_shapes(body[name].type)[0][1] for name in each.operands[:2])
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
  """Pairs of kernel and output places that meet an element, not padding."""
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
  """Bytes a chip sends in a ring of the group's size."""
  size = _group_size(each.attributes)
  operands = sum((_bytes(body[name].type) for name in each.operands), 0.0)
  share = (size - 1) / size
  if kind == 'all-gather':
    return operands * (size - 1)
  if kind == 'all-reduce':
    return 2 * operands * share
  return operands * share if kind != 'collective-permute' else operands


def _group_size(attributes: str) -> int:
  """Chips that exchange: a list, a table, or axes of a mesh are written."""
  if found := re.search(r'replica_groups=\{\{([\d,]*)\}', attributes):
    return len(found[1].split(','))
  if found := re.search(r'replica_groups=\[\d+,(\d+)\]', attributes):
    return int(found[1])
  if found := re.search(r'replica_groups=mesh\[(.*?)\] *\{(.*?)\}', attributes):
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", found[1]))
    # 'axis', or a part of it: 'axis':(what is before)size.
    axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", found[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  return 2


def _moved(each: Instruction, body, computations) -> float:
  """Bytes of the result and of what is read of the operands."""
  if each.opcode == 'dynamic-slice':
    return 2 * _bytes(each.type)
  if each.opcode == 'dynamic-update-slice':
    return 2 * _bytes(body[each.operands[1]].type)
  written = _bytes(each.type)
  read = [_bytes(body[name].type) for name in each.operands if name in body]
  if each.opcode != 'fusion':
    return written + sum(read)
  inner = computations[_called(each.attributes, 'calls')[0]]
  for parameter in (p for p in inner.values() if p.opcode == 'parameter'):
    i = int(parameter.literal)
    uses = [x for x in inner.values() if parameter.name in x.operands]
    if not uses or i >= len(read):
      continue
    if all(
      x.opcode == 'dynamic-slice' and x.operands[0] == parameter.name
      for x in uses
    ):
      read[i] = sum(_bytes(x.type) for x in uses)
    elif all(
      x.opcode == 'dynamic-update-slice' and x.operands[0] == parameter.name
      for x in uses
    ):
      # Written in place: only the slice moves.
      update = sum(_bytes(inner[x.operands[1]].type) for x in uses)
      written -= min(read[i], written) - update
      read[i] = 0
  return written + sum(read)
