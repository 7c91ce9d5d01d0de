"""Finds what is wrong with the records of a file, for `mmicl data check`."""

import functools
from collections.abc import Iterator

from mmicl_jax.context.lint import lint
from mmicl_jax.data import records
from mmicl_jax.data.image_files import holds_bytes
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote

_REMEMBERED = 16384  # image files checked only once, since records share them


def problems(
  path: str, data_dir: str | None = None, open_images: bool = False
) -> Iterator[tuple[int, list[str]]]:
  """Yields (line number, its problems) for each record; [] if it is sound.

  open_images: also decode every image, not only check that its file exists.
  Raises UserError if the file cannot be read.
  """
  errors: list[UserError] = []

  def unreadable() -> Iterator[tuple[int, list[str]]]:
    for error in errors:
      line, _, text = str(error).removeprefix(f'{path}:').partition(': ')
      yield int(line), [text]
    errors.clear()

  for record in records.read_records(path, data_dir, on_error=errors.append):
    yield from unreadable()
    line = int(record.where.rpartition(':')[2])
    images = (_image_problem(image, open_images) for image in record.images)
    yield line, [*lint(record), *filter(None, images)]
  yield from unreadable()


def _image_problem(image: str | bytes, open_it: bool) -> str:
  """The problem of an image, or ''. Base64 has no file, so it is decoded."""
  if isinstance(image, bytes) or holds_bytes(image):
    return _problem(image)  # not cached, since the key would be a whole image
  return _file_problem(image, open_it)


@functools.lru_cache(_REMEMBERED)
def _file_problem(path: str, open_it: bool) -> str:
  return '' if not open_it and remote.is_file(path) else _problem(path)


def _problem(image: str | bytes) -> str:
  try:
    load_image(image, 8)
  except UserError as error:
    return str(error)
  return ''
