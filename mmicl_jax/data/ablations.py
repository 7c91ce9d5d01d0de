"""Training data without a part of the context scheme, as the paper ablates it.

Records and Examples are rewritten or left out when they are read; the files
stay as they are. gin_configs/ablations/ has a file for each.
"""

import array
import dataclasses
from collections.abc import Sequence
from typing import Any, SupportsIndex

from mmicl_jax.context.text import (
  IMAGE_SPAN,
  divided,
  slotted,
  style_of,
  undeclared,
)
from mmicl_jax.context.turns import Example, numbered
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

ABLATIONS = {
  'declarations': "images stand in the text without 'image 0 is'",
  'interconnected': 'no prompt has a turn with more than one image',
  'few_shot': 'queries stand alone, without demonstrations',
}


def check_ablations(names: Sequence[str]) -> tuple[str, ...]:
  """The names, each once; raises UserError for one that is unknown."""
  found = (names,) if isinstance(names, str) else tuple(names)
  for name in found:
    if name not in ABLATIONS:
      raise UserError(
        f'ABLATE names {name!r}: choose of {", ".join(ABLATIONS)}'
      )
  return tuple(dict.fromkeys(found))


def ablated(item: Any, names: Sequence[str]) -> Any:
  """A Record or Example without what `names` says; None if it is left out.

  A rewritten Example does not know its turns any more: they would be declared
  again. Raises UserError, naming the item, if two images of a query have the
  same name.
  """
  parts = _turns(item)
  if 'interconnected' in names and any(
    len(IMAGE_SPAN.findall(part)) > 1 for part in parts
  ):
    return None
  inputs, targets, images = item.inputs, item.targets, len(item.images)
  if 'few_shot' in names and len(parts) > 1:
    try:
      text, answer = slotted(parts[-1], targets)
    except UserError as error:
      where = item.where if isinstance(item, Record) else item.name
      raise UserError(f'{where}: {error}') from error
    inputs, targets = numbered(text, 0), numbered(answer, 0)
    images = len(IMAGE_SPAN.findall(inputs))
  if 'declarations' in names:
    inputs = undeclared(inputs)
  if (inputs, targets) == (item.inputs, item.targets):
    return item
  first = len(item.images) - images
  if isinstance(item, Record):
    kept = item.input_image
    if first:
      kept = [] if isinstance(kept, (str, bytes)) else list(kept)[first:]
    return dataclasses.replace(
      item, input_text=inputs, input_image=kept, output_text=targets
    )
  return Example(
    inputs, targets, item.images[first:], style=item.style, name=item.name
  )


def ablated_source(records: Sequence[Any], names: Sequence[str]) -> Sequence:
  """Records or Examples as `ablated` makes them when they are read.

  Those that are left out are found now, which reads all of them once. Raises
  UserError if none is left.
  """
  names = check_ablations(names)
  if not names:
    return records
  kept = None
  if 'interconnected' in names:
    kept = array.array('Q', _kept(records, names))
    if not kept:
      raise UserError(
        'without interconnected images no record is left: name other data'
      )
  return AblatedRecords(records, names, kept)


@dataclasses.dataclass(frozen=True)
class AblatedRecords(Sequence):
  """kept: the places of the records that are not left out; None for all."""

  records: Sequence[Any]
  names: tuple[str, ...]
  kept: Sequence[int] | None = None

  def __len__(self) -> int:
    return len(self.records if self.kept is None else self.kept)

  def __getitem__(self, i: SupportsIndex) -> Any:
    index = range(len(self))[i]
    place = index if self.kept is None else self.kept[index]
    return ablated(self.records[place], self.names)


def _kept(records: Sequence[Any], names: Sequence[str]):
  """The places of records that stay; so does one that cannot be read."""
  for i in range(len(records)):
    try:
      if ablated(records[i], names) is not None:
        yield i
    except UserError:  # whoever reads it says what is wrong
      yield i


def _turns(item: Any) -> list[str]:
  """The texts of the turns, as far as the prompt shows where they end.

  The last turn of a chat is its query, in a dialog as well, unless `meta.shots`
  says that there are no demonstrations.
  """
  if isinstance(item, Record) and item.num_shots == 0:
    return [item.inputs]
  if isinstance(item, Example) and item.turns:
    return divided(item.inputs, item.style)
  return divided(item.inputs, style_of(item.inputs))
