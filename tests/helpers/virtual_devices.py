"""Several CPU devices in a process that a test starts."""

import os


def variables(count: int) -> dict[str, str]:
  """Variables of the environment that give a process so many devices.

  XLA_FLAGS are this process's otherwise: the same bits need the same flags.
  NPROC is how many threads run programs. XLA takes one for each device, and if
  another program has one of them, several devices may wait in vain.
  """
  flag = f'--xla_force_host_platform_device_count={count}'
  flags = f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()
  more = {'NPROC': str(4 * count)} if count > 1 else {}
  return {'XLA_FLAGS': flags, **more}
