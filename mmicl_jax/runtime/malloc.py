"""Memory that is kept, in pages of 2 MiB: faster computing on a CPU.

XLA takes the temporaries of every step from malloc and gives them back. glibc
returns blocks that large to the kernel, which clears them again, 4 KiB at a
time, and in a virtual machine may have given them to the host meanwhile. So
blocks stay in one heap that never shrinks, of huge pages. glibc (2.35 or newer)
reads the settings when a process starts, hence the restart; other C libraries
ignore them.
"""

import os
import sys

VARIABLE = 'GLIBC_TUNABLES'
SETTING = ':'.join(
  [
    'glibc.malloc.hugetlb=1',
    'glibc.malloc.mmap_max=0',
    'glibc.malloc.trim_threshold=1099511627776',
    'glibc.malloc.arena_max=1',  # those of other threads cannot hold so much
  ]
)


def restart() -> None:
  """Starts this very command again with these settings, under Linux.

  A value that the user gave to GLIBC_TUNABLES stays as it is.
  """
  if VARIABLE in os.environ or sys.platform != 'linux':
    return
  os.environ[VARIABLE] = SETTING
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
