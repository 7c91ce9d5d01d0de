"""Makes glibc keep freed blocks of memory, or give them back at once.

XLA allocates the temporaries of every step by malloc and frees them. glibc
returns such large blocks to the kernel, which must clear them again, 4 KiB at a
time, and in a virtual machine may get them anew from the host. So steps on a
CPU are faster if blocks stay in one heap of huge pages that never shrinks. A
conversion uses each block once, so its peak is smaller if blocks are returned
at once. Other C libraries are left alone.
"""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator

TUNABLES = 'GLIBC_TUNABLES'
HUGE_PAGES = 'MMICL_HUGE_PAGES'
SETTING = ':'.join(
  [
    'glibc.malloc.hugetlb=1',
    'glibc.malloc.mmap_max=0',
    'glibc.malloc.trim_threshold=1099511627776',
    'glibc.malloc.arena_max=1',  # other threads' arenas are too small
  ]
)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
THRESHOLD = 2**20
FIRST_TRIM_THRESHOLD = 2**17  # glibc's when a process starts
LARGEST_THRESHOLD = 2**25  # the largest that glibc sets by itself


def restart_if_wanted() -> None:
  """With MMICL_HUGE_PAGES=1 on Linux, starts this command again with SETTING.

  glibc (2.35 or newer) reads GLIBC_TUNABLES only when a process starts. If the
  user has set that variable, nothing happens.
  """
  wanted = os.environ.get(HUGE_PAGES) == '1'
  if wanted and sys.platform == 'linux' and TUNABLES not in os.environ:
    os.environ[TUNABLES] = SETTING
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def advice(backend: str) -> str | None:
  """A line on huge pages if they would help and nothing is set, else None.

  backend: JAX's, such as 'cpu'.
  """
  said = {TUNABLES, HUGE_PAGES} & os.environ.keys()
  if backend != 'cpu' or said or platform.libc_ver()[0] != 'glibc':
    return None
  return (
    f'steps on this CPU are faster with {HUGE_PAGES}=1 and take more memory '
    f'({HUGE_PAGES}=0 silences this)'
  )


def return_large_blocks() -> None:
  """Makes glibc return freed blocks above 1 MiB to the kernel from now on.

  Otherwise glibc raises this threshold up to 32 MiB as it sees large blocks,
  and keeps smaller ones in up to eight arenas for each core. TensorStore's
  threads fill those, so a conversion's peak would depend on the machine. What
  small blocks leave at an arena's end goes back too, also where a former
  `returning_large_blocks` has set that it stays.
  """
  _set(M_MMAP_THRESHOLD, THRESHOLD)
  _set(M_TRIM_THRESHOLD, FIRST_TRIM_THRESHOLD)


@contextlib.contextmanager
def returning_large_blocks() -> Iterator[None]:
  """Does `return_large_blocks` during a block that reads weights into memory.

  Afterwards glibc keeps freed blocks, as it does by itself once it has seen
  large ones: computing uses the same blocks again and again. If the user has
  set GLIBC_TUNABLES, nothing changes.
  """
  if TUNABLES in os.environ:
    yield
    return
  return_large_blocks()
  try:
    yield
  finally:
    _set(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
    _set(M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD)


def _set(option: int, value: int) -> None:
  if sys.platform == 'linux':
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
      mallopt(option, value)
