"""The rules for outputs, so that no existing file is lost by mistake.

An output is never one of the inputs, not even under another name. An existing
file is touched only after the inputs were read and the first result is there,
and only if it is empty or of the kind that the command writes. Then
`files.writing` replaces it in one step; `files.new_directory` refuses a folder
that is not empty.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

_LONGEST_MARK = 64  # bytes at a file's beginning that tell its kind


def check_output(
  output: str | os.PathLike,
  inputs: Iterable[str | os.PathLike | None] = (),
  mark: bytes | None = None,
) -> None:
  """Checks the place of an output before any work is done.

  inputs: the files that the command reads; None is skipped. mark: the beginning
  of the files that the command writes, in lower case; an existing output must
  begin with it or be empty. Raises UserError if the output is an input, a
  folder or another kind of file, or if this user may not write there.
  """
  if remote.is_remote(output):
    _check_remote(remote.address(output), inputs, mark)
    return
  place = Path(output)
  for source in inputs:
    if source is not None and _same(place, Path(source)):
      raise _is_input(output)
  if place.is_dir():
    raise UserError(f'{output} is a folder: name a file for the output')
  nearest = place if place.exists() else _folder(place)
  if not os.access(nearest, os.W_OK):
    raise UserError(
      f'{output} cannot be written there (no permission for {nearest}): choose '
      'another place'
    )
  if mark is not None and place.is_file():
    with open(place, 'rb') as file:
      _check_mark(output, file.read(_LONGEST_MARK), mark)


@contextlib.contextmanager
def readable_twice(path: str | os.PathLike) -> Iterator[Path]:
  """Gives a path that can be read more than once: `path` itself, or a copy.

  The copy is a temporary file with what came through a pipe. Raises UserError
  if `path` cannot be read.
  """
  try:
    if remote.is_remote(path):
      yield local_file(path)
      return
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
      yield Path(path)
      return
    if stat.S_ISDIR(mode):
      raise IsADirectoryError(None, 'it is a folder')
    with tempfile.NamedTemporaryFile(prefix='mmicl-') as copy:
      with open(path, 'rb') as pipe:
        shutil.copyfileobj(pipe, copy)
      copy.flush()
      yield Path(copy.name)
  except OSError as error:
    if error.filename not in (None, os.fspath(path)):
      raise  # an error of the block, about another file
    remedy = 'name a file that can be read'
    raise explained(error, path, remedy, 'could not be read') from error


def _check_remote(
  output: str,
  inputs: Iterable[str | os.PathLike | None],
  mark: bytes | None,
) -> None:
  if any(s is not None and remote.address(s) == output for s in inputs):
    raise _is_input(output)
  if remote.is_file(output) and mark is not None:
    remedy, what = 'look at the storage', 'could not be read'
    with remote.explaining(output, remedy, what):
      _check_mark(output, remote.read_bytes(output)[:_LONGEST_MARK], mark)


def _check_mark(output: str | os.PathLike, begin: bytes, mark: bytes) -> None:
  if begin.strip() and not begin.lstrip().lower().startswith(mark):
    raise UserError(
      f'{output} exists and was not written by this command: name another '
      'file, or move it away'
    )


def _is_input(output: str | os.PathLike) -> UserError:
  return UserError(
    f'{output} is read by this command: name another file for the output'
  )


def _same(output: Path, source: Path) -> bool:
  try:
    return os.path.samefile(output, source)
  except OSError:  # one of them does not exist
    return False


def _folder(place: Path) -> Path:
  """The nearest folder above a path that exists."""
  return next(p for p in place.absolute().parents if p.exists())
