"""Finds what is wrong with records, for `mmicl data check`."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mmicl_jax.context.lint import lint
from mmicl_jax.data.across import Across
from mmicl_jax.data.image_files import holds_bytes
from mmicl_jax.data.images import load_image
from mmicl_jax.data.opened import MANIFEST, read_file, record_files
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote

_REMEMBERED = 16384  # image files checked only once, since records share them
_NO_ANSWER = 'The answer is empty.'


def problems(
  path: str,
  data_dir: str | None = None,
  open_images: bool = False,
  across: Across | None = None,
) -> Iterator[tuple[int, list[str]]]:
  """Yields (line number, its problems) for each record; [] if it is sound.

  In ArrayRecord the number is the record's, from 0. open_images: also decode
  every image, not only check that its file exists. across: also compares the
  records with each other, and with those that it has seen before. Raises
  UserError if the file cannot be read.
  """
  errors: list[UserError] = []
  of_file = functools.lru_cache(_REMEMBERED)(
    lambda path: _file_problem(path, open_images)
  )

  def unreadable() -> Iterator[tuple[int, list[str]]]:
    for error in errors:
      found = str(error).removeprefix(os.path.join(os.getcwd(), path))
      line, _, text = found.removeprefix(path).removeprefix(':').partition(': ')
      yield int(line), [text]
    errors.clear()

  for record in read_file(path, data_dir, on_error=errors.append):
    yield from unreadable()
    line = int(record.where.rpartition(':')[2])
    images = (_image_problem(image, of_file) for image in record.images)
    found = [*linted(record), *filter(None, images)]
    yield line, found + (across.problems(record) if across else [])
  yield from unreadable()


def manifest_problems(folder: str) -> list[str]:
  """What of a built folder is not as its manifest says."""
  paths = record_files(folder)
  splits = json.loads((Path(folder) / MANIFEST).read_text('utf-8'))['splits']
  sums = {k: v for s in splits.values() for k, v in s['files'].items()}
  return [
    f'{path}: not the file that was built: build again'
    for path in paths
    if os.path.exists(path) and _sum(path) != sums[os.path.basename(path)]
  ]


def _sum(path: str) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def linted(record: Record) -> list[str]:
  """As lint, but the official files of a test split may have no answers."""
  found = lint(record)
  answers = record.meta.get('answers') if isinstance(record.meta, dict) else 0
  if answers == [] and _NO_ANSWER in found:
    found.remove(_NO_ANSWER)
  return found


def _image_problem(
  image: str | bytes, file_problem: Callable[[str], str]
) -> str:
  """The problem of an image, or ''. Base64 has no file, so it is decoded."""
  if isinstance(image, bytes) or holds_bytes(image):
    return _problem(image)  # not cached, since the key would be a whole image
  return file_problem(image)


def _file_problem(path: str, open_it: bool) -> str:
  return '' if not open_it and remote.is_file(path) else _problem(path)


def _problem(image: str | bytes) -> str:
  try:
    load_image(image, 8)
  except UserError as error:
    return str(error)
  return ''
