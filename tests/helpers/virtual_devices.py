"""Several CPU devices in a process that a test starts."""

import os


def xla_flags(count: int) -> str:
  """XLA_FLAGS of this process, but with so many devices.

  The same bits need the same flags: others would be compiled otherwise.
  """
  flag = f'--xla_force_host_platform_device_count={count}'
  return f'{os.environ["XLA_FLAGS"]} {flag}'
