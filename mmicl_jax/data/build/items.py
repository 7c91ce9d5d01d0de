"""What the files in sets/ give: items, or why there is none.

An official item becomes one or several Items, or a Skip with one of REASONS.
The rest of the builder knows no dataset.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Why an official item gives no record; the manifest knows no others.
REASONS = (
  'missing_file',
  'empty_file',
  'not_an_image',
  'broken_image',
  'too_large',
  'too_small',
  'broken_video',
  'missing_field',
  'bad_line',
  'outside_raw',
  'bad_reference',
  'bad_box',
  'no_answer',
  'empty_text',
  'too_many_images',
  'duplicate_id',
  'reserved_text',
)


class Bad(Exception):
  """An official item that gives no record; `reason` is one of REASONS."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class PictureRef:
  """A picture of an item: a file of the tree, or what is cut out of one.

  path: relative to the tree; 'a.zip!b.jpg' is a member of an archive. box: the
  corners x1, y1, x2, y2 of a crop, in pixels. frame: (i, n) is the i-th of n
  frames of a video, i from 1. data: the file's bytes, where an annotation file
  holds them; `path` then only names them.
  """

  path: str
  box: tuple[float, float, float, float] | None = None
  frame: tuple[int, int] | None = None
  data: bytes | None = dataclasses.field(default=None, repr=False)

  @property
  def key(self) -> str:
    """Tells it apart from all other pictures of the tree."""
    if self.box is not None:
      return f'{self.path}#{",".join(map(repr, self.box))}'
    if self.frame is not None:
      return f'{self.path}#{self.frame[0]}/{self.frame[1]}'
    return self.path


@dataclasses.dataclass(frozen=True, slots=True)
class SourceItem:
  """One question of a dataset, before a form is chosen for it.

  id: what follows the split in the record's id. source: the official id, which
  the items of one official item share. fields: what the form is filled with, as
  annotated. answers: the official ones, as they
  came; none where they are the outputs, whose slots the record fills. outputs:
  the texts of which one is drawn in proportion to its count; by default the
  answers. text: the whole text of the Turn, where no form is used;
  it may always hold slots. slots: fields and outputs hold slots of a Turn too,
  such as {0}, and their words are respelled and escaped already. meta: more of
  the official item. group: items of one group are no demonstrations of it.
  score_id: what scorers know it by, if that is not `id`. shots: demonstrations
  that the official item brings itself. repaired: what was mended in it.
  """

  id: str
  source: str
  fields: Mapping[str, str]
  pictures: tuple[PictureRef, ...] = ()
  answers: tuple[str, ...] = ()
  outputs: tuple[str, ...] | None = None
  text: str | None = None
  slots: bool = False
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  group: str | None = None
  score_id: str | int | None = None
  shots: tuple['SourceItem', ...] = ()
  repaired: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Skip:
  """An official item without a record, and the reason."""

  source: str
  reason: str
