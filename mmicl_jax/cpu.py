"""What this machine's CPU is, and has instructions for."""

import functools
from pathlib import Path


def described(name: str) -> str:
  """What Linux says under a name of the first core; '' elsewhere."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    return ''
  for line in lines:
    key, _, value = line.partition(':')
    if key.strip() == name:
      return value.strip()
  return ''


@functools.cache
def instructions() -> frozenset[str]:
  """The names that Linux gives them, such as 'avx2'; empty elsewhere."""
  return frozenset(described('flags').split())


def multiplies_bfloat16() -> bool:
  """Whether XLA's products of bfloat16 are faster than those of float32.

  Where the CPU has no instruction for them, kernels widen each operand
  whenever they read it, and a step of generation takes up to twice as long as
  with operands that were widened once (docs/generation.md).
  """
  return not instructions().isdisjoint({'avx512_bf16', 'amx_bf16'})
