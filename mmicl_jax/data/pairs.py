"""Pictures with captions as records, and what the sources of pairs share."""

from mmicl_jax.data.build.words import respelled
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

PROMPT = 'image 0 is <image0>图. Caption:'  # where no TEMPLATES are given


def pair_record(
  image: str | bytes,
  caption: str | bytes,
  name: str,
  where: str,
  *,
  root: str = '',
  need_answer: bool = True,
) -> Record:
  """A picture and its caption as a record.

  image: the bytes of an image file, or a path under `root`. The caption's white
  space becomes single blanks, and words that would name an image are respelled.
  Raises UserError, naming `where`, for a caption that is blank or not UTF-8.
  """
  try:
    text = caption.decode() if isinstance(caption, bytes) else caption
  except UnicodeDecodeError as error:
    raise UserError(
      f'{where}: the caption of {name} is not UTF-8 (byte {error.start}): drop '
      'the pair, or set SKIP_BAD_RECORDS'
    ) from error
  text = ' '.join(text.split())
  if need_answer and not text:
    raise UserError(
      f'{where}: the caption of {name} is blank: drop the pair, or set '
      'SKIP_BAD_RECORDS'
    )
  return Record(
    PROMPT, [image], respelled(text), id=name, root=root, where=where
  )


class Omitted:
  """Counts pairs that cannot be had, and remembers the first.

  A dead address is no fault of the file, so such pairs are no records, but they
  are told of.
  """

  def __init__(self, what: str):
    self.what = what
    self.count = 0
    self.first = ''

  def add(self, name: str) -> None:
    self.count += 1
    self.first = self.first or name

  def __str__(self) -> str:
    return f'{self.count:,} {self.what} are left out, first {self.first}'
