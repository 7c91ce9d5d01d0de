"""Reads a compiled program's HLO text: instructions, and how often they run."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

# Element type, dimensions and layout of an array within a type's text.
_ARRAY = re.compile(r'\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^{}]*\})?')
BITS = {'pred': 8, 'bf16': 16, 'token': 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of HLO: name = type opcode(operands), attributes.

  root: whether its value is that of its computation.
  """

  name: str
  type: str
  opcode: str
  operands: tuple[str, ...]
  attributes: str
  literal: str  # the text in the parentheses
  root: bool


def parse_program(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
  """Returns ({computation: {name: instruction}}, the entry's name)."""
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
  """How often a while loop runs; 1 if the program does not say.

  It counts from 0 to the constant of its condition, by 1 or, where the compiler
  has unrolled it, by more.
  """
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  if known:
    return int(known[1])
  condition, body = (
    computations[called(loop.attributes, key)[0]]
    for key in ('condition', 'body')
  )
  limits = [n for each in condition.values() if (n := _constant(each))]
  return math.ceil(max(limits, default=1) / _step(condition, body))


def _step(
  condition: Mapping[str, Instruction], body: Mapping[str, Instruction]
) -> int:
  """By how much a loop's body raises the number that its condition reads."""
  compared, result = (
    next(each for each in part.values() if each.root)
    for part in (condition, body)
  )
  for name in compared.operands:
    place = re.search(r'index=(\d+)', condition[name].attributes)
    if place and result.opcode == 'tuple':
      raised = body[result.operands[int(place[1])]]
      if raised.opcode == 'add':
        steps = (_constant(body[x]) for x in raised.operands)
        return next((n for n in steps if n), 1)
  return 1


def _constant(each: Instruction) -> int | None:
  """The whole number that an instruction names; None if it names none."""
  if each.opcode == 'constant' and each.literal.isdigit():
    return int(each.literal)
  return None


def reached(
  computations: Mapping[str, Mapping[str, Instruction]], entry: str
) -> Iterator[tuple[str, int, str | None]]:
  """Yields (computation, how often it runs, holder) for each that runs.

  The holder of a computation inside a fusion is the computation that this
  fusion stands in; outside fusions it is None.
  """
  waiting: list[tuple[str, int, str | None]] = [(entry, 1, None)]
  while waiting:
    name, times, holder = waiting.pop()
    yield name, times, holder
    for each in computations[name].values():
      if each.opcode == 'while':
        count = times * trip_count(each, computations)
        waiting += [
          (body, count, holder) for body in called(each.attributes, 'body')
        ]
      elif each.opcode in ('fusion', 'call', 'async-start', 'conditional'):
        inner = holder or (name if each.opcode == 'fusion' else None)
        names = called(
          each.attributes,
          'calls|to_apply|branch_computations|true_computation'
          '|false_computation|called_computations',
        )
        waiting += [(other, times, inner) for other in names]


def called(attributes: str, keys: str) -> list[str]:
  """The computations that attributes name under `keys`: 'key|other key'."""
  names: list[str] = []
  for found in re.finditer(
    rf'\b(?:{keys})=(?:\{{([^}}]*)\}}|%?([\w.\-]+))', attributes
  ):
    listed = found[1] if found[1] is not None else found[2]
    names += [name.strip().lstrip('%') for name in listed.split(',')]
  return names


def custom_call_target(each: Instruction) -> str:
  """The function that a custom call names; '' for other instructions."""
  found = re.search(r'custom_call_target="([^"]*)"', each.attributes)
  return found[1] if found else ''


def estimated_cycles(each: Instruction) -> int:
  """The TPU compiler's own estimate of an instruction's time; 0 if it has none.

  It has one for computations, not for collectives or kernels of our own.
  """
  found = re.search(r'"estimated_cycles":"(\d+)"', each.attributes)
  return int(found[1]) if found else 0


def _instruction(line: str) -> Instruction:
  left, _, right = line.strip().partition(' = ')
  name = left.removeprefix('ROOT ').lstrip('%')
  end = _closing(right, 0) if right[0] == '(' else right.index(' ')
  type_, rest = right[:end], right[end:].strip()
  opcode, _, _ = rest.partition('(')
  close = _closing(rest, len(opcode))
  inside = rest[len(opcode) + 1 : close - 1]
  operands = tuple(re.findall(r'%([\w.\-]+)', inside))
  root = left.startswith('ROOT ')
  return Instruction(name, type_, opcode, operands, rest[close:], inside, root)


def _closing(text: str, start: int) -> int:
  """The position after the parenthesis that closes the one at `start`."""
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == '(') - (text[i] == ')')
    if not depth:
      return i + 1
  return len(text)


def array_shapes(type_: str) -> list[tuple[str, tuple[int, ...]]]:
  """(element type, dimensions) of each array in a type."""
  return [(found[1], _dimensions(found[2])) for found in _ARRAY.finditer(type_)]


def _dimensions(text: str) -> tuple[int, ...]:
  return tuple(int(d) for d in text.split(',') if d)


def nbytes(type_: str) -> float:
  """Bytes of all arrays in a type."""
  return sum(map(_array_bytes, _ARRAY.finditer(type_)), 0.0)


def hbm_bytes(type_: str) -> float:
  """Bytes of a type's arrays in HBM; others have S(n) in their layout."""
  return sum(
    (
      _array_bytes(found)
      for found in _ARRAY.finditer(type_)
      if not re.search(r'S\([1-9]', found[3] or '')
    ),
    0.0,
  )


def _array_bytes(found: re.Match[str]) -> float:
  return math.prod(_dimensions(found[2])) * _bits(found[1]) / 8


def _bits(kind: str) -> int:
  if kind in BITS:
    return BITS[kind]
  digits = re.search(r'\d+', kind)
  return int(digits[0]) if digits else 0
