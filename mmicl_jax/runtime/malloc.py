"""What glibc does with large blocks of memory: keep them, or give them back.

XLA takes the temporaries of every step from malloc and frees them. glibc
returns blocks that large to the kernel, which clears them again, 4 KiB at a
time, and in a virtual machine may have given them to the host meanwhile. Steps
on a CPU are faster where blocks stay in one heap of huge pages that never
shrinks. A conversion is the opposite: it takes each block once, and its peak
is smaller where blocks leave at once. Other C libraries do as they do.
"""

import ctypes
import os
import platform
import sys

TUNABLES = 'GLIBC_TUNABLES'
HUGE_PAGES = 'MMICL_HUGE_PAGES'
SETTING = ':'.join(
  [
    'glibc.malloc.hugetlb=1',
    'glibc.malloc.mmap_max=0',
    'glibc.malloc.trim_threshold=1099511627776',
    'glibc.malloc.arena_max=1',  # those of other threads cannot hold so much
  ]
)
M_MMAP_THRESHOLD = -3  # glibc's malloc.h
THRESHOLD = 2**20


def restart_if_wanted() -> None:
  """With MMICL_HUGE_PAGES=1, starts this very command again with SETTING.

  glibc (2.35 or newer) reads it only when a process starts. A value that the
  user gave to GLIBC_TUNABLES stays as it is.
  """
  wanted = os.environ.get(HUGE_PAGES) == '1'
  if wanted and sys.platform == 'linux' and TUNABLES not in os.environ:
    os.environ[TUNABLES] = SETTING
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def advice(backend: str) -> str | None:
  """A line about huge pages, where they would help and nothing is set.

  backend: JAX's, as 'cpu'.
  """
  said = {TUNABLES, HUGE_PAGES} & os.environ.keys()
  if backend != 'cpu' or said or platform.libc_ver()[0] != 'glibc':
    return None
  return (
    f'steps on this CPU are faster with {HUGE_PAGES}=1 and take more memory '
    f'({HUGE_PAGES}=0 silences this)'
  )


def return_large_blocks() -> None:
  """From now on a freed block above 1 MiB leaves this process; glibc only.

  glibc raises this threshold to 32 MiB as it sees large blocks, and keeps what
  is below it in up to eight arenas a core: TensorStore's threads fill them, and
  the peak of a conversion would depend on the machine.
  """
  if sys.platform == 'linux':
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
      mallopt(M_MMAP_THRESHOLD, THRESHOLD)
