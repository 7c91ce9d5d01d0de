"""What this machine's CPU has instructions for."""

import functools
from pathlib import Path


@functools.cache
def instructions() -> frozenset[str]:
  """The names that Linux gives them, such as 'avx2'; empty elsewhere."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    return frozenset()
  for line in lines:
    name, _, value = line.partition(':')
    if name.strip() == 'flags':
      return frozenset(value.split())
  return frozenset()


def multiplies_bfloat16() -> bool:
  """Whether XLA's products of bfloat16 are faster than those of float32.

  Where the CPU has no instruction for them, kernels widen each operand
  whenever they read it, and a step of generation takes up to twice as long as
  with operands that were widened once (docs/generation.md).
  """
  return not instructions().isdisjoint({'avx512_bf16', 'amx_bf16'})
