"""Bytes that an instruction of a compiled program moves from and to HBM."""

import re
from collections.abc import Mapping

from mmicl_jax.compile.hlo import Instruction, called, hbm_bytes, nbytes

Computation = Mapping[str, Instruction]

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# They name, pack or reinterpret values; no byte moves.
FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while'),
  *('conditional', 'call', 'after-all', 'partition-id', 'opt-barrier', 'iota'),
  *('async-done', 'async-update'),
}


def moved(
  each: Instruction, body: Computation, computations: Mapping[str, Computation]
) -> float:
  """Bytes of the result and of what is read of the operands.

  each: outside fusions, of the computation `body`.
  """
  if each.opcode in FREE or each.opcode.endswith('-start'):
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
    # A piece of a collective: its buffers are handed on, not moved.
    for i in _handed_on(each):
      if i < len(read):
        written, read[i] = max(0.0, written - read[i]), 0.0
  for parameter in (p for p in inner.values() if p.opcode == 'parameter'):
    i = int(parameter.literal)
    uses = [x for x in inner.values() if parameter.name in x.operands]
    if not uses or i >= len(read) or not read[i]:
      continue
    first = all(x.operands[0] == parameter.name for x in uses)
    if first and all(x.opcode == 'dynamic-slice' for x in uses):
      read[i] = sum(nbytes(x.type) for x in uses)
    elif first and all(x.opcode == 'dynamic-update-slice' for x in uses):
      # Written in place: only the slice moves.
      update = sum(nbytes(inner[x.operands[1]].type) for x in uses)
      written -= min(read[i], written) - update
      read[i] = 0
  return written + sum(read)


def _handed_on(each: Instruction) -> list[int]:
  """Operands whose buffers are also results."""
  found = re.search(r'output_to_operand_aliasing=\{(.*?\))\}', each.attributes)
  return [int(i) for i in re.findall(r'\((\d+),', found[1])] if found else []
