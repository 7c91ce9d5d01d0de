"""From a request's words to the arrays of its prompt; uses no device.

All of it is slow (JSON, base64, JPEG, tokenizing), so it runs in threads and
never in the event loop.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmicl_jax.context.text import collapse
from mmicl_jax.context.turns import Example
from mmicl_jax.data.fitting import Truncation
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import Request
from mmicl_jax.serve.http_errors import HttpError, bad_request
from mmicl_jax.serve.media import (
  BYTES_PER_PIXEL,
  DecodingRoom,
  invalid_image,
  judged_pixels,
)
from mmicl_jax.serve.messages import ImageAt
from mmicl_jax.serve.protocol import Prompting

TOO_LONG = 'context_length_exceeded'


@dataclasses.dataclass(frozen=True)
class Shortened:
  """A prompt that fits. ids: without the end token. lost: what was dropped."""

  example: Example
  ids: list[int]
  lost: Truncation

  @property
  def tokens(self) -> int:
    """How many tokens the encoder reads, the end token included."""
    return len(self.ids) + 1

  def text(self, predictor: Predictor) -> str:
    """Exactly what the encoder reads."""
    if not self.lost.words:
      return self.example.inputs
    decoded = predictor.tokenizer.decode(self.ids, skip_special_tokens=False)
    return collapse(decoded)


def shorten(
  predictor: Predictor, prompting: Prompting, images: Sequence[Any]
) -> Shortened:
  """Makes the prompt, and makes it fit; looks into no image.

  Raises HttpError 400 for what is no prompt, and for images that do not fit.
  """
  conversation = prompting.conversation
  example = conversation.example(images, prompting.style, prompting.shots)
  # A raw prompt may have one 图 for each image, or all copies of it.
  allowed = (1, predictor.config.qformer.num_queries)
  code = TOO_LONG if all(n in allowed for n in example.copies) else None
  try:
    return Shortened(*predictor.shortened(example))
  except UserError as error:
    raise bad_request(str(error), conversation.param, code) from error


def check_fits(shortened: Shortened, predictor: Predictor, param: str) -> None:
  """Raises HttpError 400 for `param` if some of the prompt would be dropped."""
  if shortened.lost:
    lost = str(shortened.lost).partition(': ')[2]
    raise bad_request(
      f'The prompt does not fit into {predictor.max_input_length} tokens '
      f'({lost}): shorten it, or let that be dropped with '
      'mmicl.truncate: true.',
      param,
      TOO_LONG,
    )


def prepare(
  predictor: Predictor,
  prompting: Prompting,
  files: Sequence[bytes],
  room: DecodingRoom,
  most_pixels: int,
) -> tuple[Shortened, Request]:
  """The prompt as arrays. files: of the conversation's images, in order.

  Raises HttpError 400.
  """
  places, param = prompting.conversation.images, prompting.conversation.param
  pixels = [
    judged_pixels(place, data, most_pixels)
    for place, data in zip(places, files, strict=True)
  ]
  # With the images' places: what is kept until the answer holds no files.
  shortened = shorten(predictor, prompting, places)
  if not prompting.truncate:
    check_fits(shortened, predictor, param)
  with room.holding(max(pixels, default=0) * BYTES_PER_PIXEL):
    try:
      return shortened, predictor.request(
        _with_files(shortened.example, places, files), shortened.ids
      )
    except UserError as error:
      raise (
        _image_at_fault(predictor, places, files)
        or bad_request(str(error), param)
      ) from error


def _with_files(
  example: Example, places: Sequence[ImageAt], files: Sequence[bytes]
) -> Example:
  """The prompt with files for those of the places that it has kept."""
  found = {place.param: file for place, file in zip(places, files, strict=True)}
  return dataclasses.replace(
    example, images=tuple(found[place.param] for place in example.images)
  )


def _image_at_fault(
  predictor: Predictor,
  places: Sequence[ImageAt],
  files: Sequence[bytes],
) -> HttpError | None:
  """The HttpError that names the first image that cannot be read."""
  for place, data in zip(places, files, strict=True):
    try:
      load_image(data, predictor.config.vit.image_size)
    except UserError as own:
      return invalid_image(place, str(own))
  return None
