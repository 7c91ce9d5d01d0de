"""Pictures with the attention to their patches laid over them."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmicl_jax.context.text import IMAGE_SPAN
from mmicl_jax.context.turns import Example
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import page

_SIDE = 168  # pixels
_COLOUR = np.array([255, 96, 0], np.float32)
_MOST = 0.85  # of the colour, where attention is largest


def heat_maps(
  example: Example, attention: Mapping[str, Any]
) -> list[dict[str, str]]:
  """The pictures of a prompt; the strongest patch of all has the full colour.

  attention: as evaluation.attention tells it. A picture that cannot be opened
  is grey.
  """
  maps = [np.array(one, np.float32) for one in attention['patches']]
  most = max((float(one.max()) for one in maps), default=0.0)
  names = [span['name'] for span in IMAGE_SPAN.finditer(example.inputs)]
  return [
    {
      'name': f'image {i if name is None else name}',
      'share': f'{100 * share:.1f} %',
      'uri': picture_uri(_overlaid(image, heat / (most or 1.0))),
    }
    for i, (name, image, share, heat) in enumerate(
      zip(names, example.images, attention['images'], maps, strict=True)
    )
  ]


def picture_uri(pixels: UInt8[np.ndarray, 'H W 3']) -> str:
  """The picture as a page embeds it."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=85)
  return page.data_uri(file.getvalue(), 'jpeg')


def _overlaid(
  image: Any, heat: Float[np.ndarray, 'P P']
) -> UInt8[np.ndarray, 'H W 3']:
  """The picture without its colours, and over it the heat, from 0 to 1."""
  try:
    pixels = load_image(image, _SIDE)
  except UserError:
    pixels = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
  grey = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
  # Patches keep their edges: what lies between them is not known.
  size = (_SIDE, _SIDE)
  spread = Image.fromarray(heat).resize(size, Image.Resampling.NEAREST)
  weight = _MOST * np.clip(np.asarray(spread), 0, 1)[..., None]
  mixed = (1 - weight) * (0.35 * 255 + 0.65 * grey) + weight * _COLOUR
  return mixed.astype(np.uint8)
