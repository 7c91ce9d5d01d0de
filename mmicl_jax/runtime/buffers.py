"""Buffers that were freed go back to the system, where libc would keep them."""

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # glibc's malloc.h
THRESHOLD = 2**20


def return_large_buffers() -> None:
  """From now on a freed buffer above 1 MiB leaves this process; glibc only.

  glibc raises this threshold to 32 MiB as it sees large buffers, and keeps what
  is below it in up to eight arenas a core: TensorStore's threads fill them, and
  the peak of a conversion would depend on the machine.
  """
  if sys.platform == 'linux':
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
      mallopt(M_MMAP_THRESHOLD, THRESHOLD)
