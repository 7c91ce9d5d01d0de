"""The demo's real images, which scikit-learn brings along: no download.

They are 1,797 handwritten digits and two photographs. Each digit belongs to
one split. The photographs are cut into tiles and each tile belongs to one
split, so that no pixel is in both.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SPLITS = ('train', 'heldout')
HELD_OUT_DIGITS = 500
PHOTOS = {'china': 'a chinese temple', 'flower': 'a flower'}
TILE_ROWS, TILE_COLUMNS = 3, 4  # of one 427 x 640 photograph
# The tiles that show the subject and not only sky or leaves. They are numbered
# from the top left, row by row.
TILES = {
  'china': {'train': (1, 4, 5, 8), 'heldout': (0, 9)},
  'flower': {'train': (1, 5, 6, 10), 'heldout': (2, 9)},
}


@dataclass(frozen=True)
class Picture:
  """One image: its name, its pixels, and what it shows.

  name: unique to the pixels, since it says where they come from; the PNG file
  has this name, too. label: a digit, or a phrase such as 'a flower'.
  """

  name: str
  pixels: UInt8[np.ndarray, 'H W 3']
  label: str


@dataclass(frozen=True)
class Gallery:
  """The images of one split: the digits of each class, and tiles of photos."""

  split: str
  size: int
  digits: tuple[tuple[Picture, ...], ...]
  tiles: dict[str, tuple[Picture, ...]]

  def draw_digits(
    self, classes: Sequence[int], rng: np.random.Generator
  ) -> list[Picture]:
    """Draws one image for each class of the list; no image comes twice."""
    drawn: list[Picture] = []
    names: set[str] = set()
    for digit in classes:
      picks = self.digits[digit]
      picture = picks[int(rng.integers(len(picks)))]
      while picture.name in names:
        picture = picks[int(rng.integers(len(picks)))]
      names.add(picture.name)
      drawn.append(picture)
    return drawn

  def draw_crop(self, rng: np.random.Generator) -> Picture:
    """Cuts a random square from a random tile of a random photograph."""
    photo = tuple(PHOTOS)[int(rng.integers(len(PHOTOS)))]
    tiles = self.tiles[photo]
    tile = tiles[int(rng.integers(len(tiles)))]
    height, width, _ = tile.pixels.shape
    longest = min(height, width)
    side = int(rng.integers(longest * 2 // 3, longest + 1))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    crop = tile.pixels[top : top + side, left : left + side]
    name = f'{tile.name}-{top}-{left}-{side}'
    return Picture(name, _resize(crop, self.size), tile.label)


@functools.cache
def load_gallery(split: str = 'train', size: int = 16) -> Gallery:
  """Loads the images of a split as u8 RGB; digits are dark on white.

  size: pixels of a digit's side; tiles keep theirs until they are cropped. The
  split depends on no seed, so that the held-out images are the same in every
  run. Raises ValueError for an unknown split.
  """
  if split not in SPLITS:
    raise ValueError(f'split is {split!r}, not one of {SPLITS}')
  # Imported here, since it takes a second.
  from sklearn import datasets

  flat, labels = datasets.load_digits(return_X_y=True)
  inks = np.asarray(flat).reshape(-1, 8, 8)
  order = np.random.default_rng(2309_07915).permutation(len(inks))
  cut = len(order) - HELD_OUT_DIGITS
  chosen = order[:cut] if split == 'train' else order[cut:]
  digits: list[list[Picture]] = [[] for _ in range(10)]
  for i in sorted(int(i) for i in chosen):
    label = int(labels[i])
    ink = np.round(255 - inks[i] * (255 / 16)).astype(np.uint8)
    pixels = _resize(np.repeat(ink[..., None], 3, axis=-1), size)
    digits[label].append(Picture(f'digit-{i:04d}', pixels, str(label)))
  tiles = {
    photo: _tiles(photo, datasets.load_sample_image(f'{photo}.jpg'), split)
    for photo in PHOTOS
  }
  return Gallery(split, size, tuple(map(tuple, digits)), tiles)


def _tiles(
  photo: str, pixels: UInt8[np.ndarray, 'H W 3'], split: str
) -> tuple[Picture, ...]:
  height = pixels.shape[0] // TILE_ROWS
  width = pixels.shape[1] // TILE_COLUMNS
  tiles = []
  for i in TILES[photo][split]:
    top, left = i // TILE_COLUMNS * height, i % TILE_COLUMNS * width
    tile = pixels[top : top + height, left : left + width]
    tiles.append(Picture(f'{photo}-{i:02d}', tile, PHOTOS[photo]))
  return tuple(tiles)


def _resize(
  pixels: UInt8[np.ndarray, 'H W 3'], size: int
) -> UInt8[np.ndarray, '{size} {size} 3']:
  if pixels.shape[:2] == (size, size):
    return pixels
  image = Image.fromarray(pixels)
  resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
  resized.setflags(write=False)
  return resized
