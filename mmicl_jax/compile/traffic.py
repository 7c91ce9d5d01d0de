"""How many bytes an instruction moves from HBM and to it."""

import re
from collections.abc import Mapping

from mmicl_jax.compile.hlo import (
  Instruction,
  called,
  custom_call_target,
  hbm_bytes,
  nbytes,
)

Computation = Mapping[str, Instruction]

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# Instructions that name, pack or reinterpret values without moving bytes.
FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while'),
  *('conditional', 'call', 'after-all', 'partition-id', 'opt-barrier', 'iota'),
  *('async-done', 'async-update'),
}
# A fusion of these alone, within another, gives a buffer a second name.
RENAMING = {'parameter', 'copy', 'bitcast'}
# Custom calls of the TPU compiler that do the same.
FREE_CALLS = {
  *('AllocateBuffer', 'ConcatBitcast', 'AssumeGatherIndicesInBound'),
  *('AsyncCollectiveStart', 'AsyncCollectiveDone'),
  'GatherScatterIndicesBitpacked',
}


def moved(
  each: Instruction, body: Computation, computations: Mapping[str, Computation]
) -> float:
  """Bytes that an instruction reads of its operands, and those of its result.

  each: an instruction of the computation `body`, outside fusions.
  """
  if each.opcode in FREE or each.opcode.endswith('-start'):
    return 0.0
  if each.opcode == 'custom-call' and custom_call_target(each) in FREE_CALLS:
    return 0.0
  operands = [body[name].type for name in each.operands if name in body]
  if each.opcode == 'slice-done':  # from HBM, and perhaps back
    return nbytes(each.type) + hbm_bytes(each.type)
  if each.opcode.endswith('-done'):  # the operand is (to, from, ...)
    return sum(map(hbm_bytes, operands), 0.0)
  if each.opcode == 'dynamic-slice':
    share = nbytes(each.type) if hbm_bytes(operands[0]) else 0.0
    return share + hbm_bytes(each.type)
  if each.opcode == 'dynamic-update-slice':
    return hbm_bytes(operands[1]) + (
      nbytes(operands[1]) if hbm_bytes(each.type) else 0.0
    )
  if each.opcode == 'fusion':
    return _fusion(each, operands, computations)
  return hbm_bytes(each.type) + sum(map(hbm_bytes, operands))


def _fusion(
  each: Instruction,
  operands: list[str],
  computations: Mapping[str, Computation],
) -> float:
  inner = computations[called(each.attributes, 'calls')[0]]
  written = hbm_bytes(each.type)
  read = list(map(hbm_bytes, operands))
  if any(x.opcode in COLLECTIVES for x in inner.values()):
    # A piece of a collective passes its buffers on; it does not move them.
    for i in _handed_on(each):
      if i < len(read):
        written, read[i] = max(0.0, written - read[i]), 0.0
  for parameter in (p for p in inner.values() if p.opcode == 'parameter'):
    i = int(parameter.literal)
    if i < len(read) and read[i]:
      part, update = _parts(parameter.name, inner, computations)
      if update:  # written in place, so only the slice moves
        written -= min(read[i], written) - update
      read[i] = min(read[i], part)
  return written + sum(read)


def _parts(
  name: str, inner: Computation, computations: Mapping[str, Computation]
) -> tuple[float, float]:
  """Bytes that a fusion reads of a value, and those it writes in its place.

  Fusions read stacked weights and activations slice by slice. This follows
  the value into nested fusions, and behind those that give it another name or
  tiling only. A value that becomes the result is read whole.
  """
  read = nbytes(inner[name].type) if inner[name].root else 0.0
  update = 0.0
  for use in (x for x in inner.values() if name in x.operands):
    at = use.operands.index(name)
    if use.opcode == 'dynamic-slice' and not at:
      read += nbytes(use.type)
    elif use.opcode == 'dynamic-update-slice' and not at:
      update += nbytes(inner[use.operands[1]].type)
    elif use.opcode in ('bitcast', 'fusion'):
      body, below = inner, use.name
      if use.opcode == 'fusion':
        nested = computations[called(use.attributes, 'calls')[0]]
        if not all(x.opcode in RENAMING for x in nested.values()):
          body, below = nested, _parameter(nested, at).name
      more = _parts(below, body, computations)
      read, update = read + more[0], update + more[1]
    else:
      read += nbytes(inner[name].type)
  return read, update


def _parameter(body: Computation, number: int) -> Instruction:
  return next(
    x
    for x in body.values()
    if x.opcode == 'parameter' and int(x.literal) == number
  )


def _handed_on(each: Instruction) -> list[int]:
  """The positions of operands whose buffers are results as well."""
  found = re.search(r'output_to_operand_aliasing=\{(.*?\))\}', each.attributes)
  return [int(i) for i in re.findall(r'\((\d+),', found[1])] if found else []
