"""The demo's real images, from files inside scikit-learn: no download.

1,797 handwritten digits and two photographs. Digits are split by image;
photographs are cut into tiles and the tiles are split, so that no pixel is in
both splits.
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
# Tiles, counted by rows, that show their subject and not only sky or leaves.
TILES = {
  'china': {'train': (1, 4, 5, 8), 'heldout': (0, 9)},
  'flower': {'train': (1, 5, 6, 10), 'heldout': (2, 9)},
}


@dataclass(frozen=True)
class Picture:
  """One image: pixels u8[H, W, 3], its name, and what it shows.

  `name` says where the pixels come from and is unique to them, so it tells
  splits apart and names the PNG file.
  """

  name: str
  pixels: UInt8[np.ndarray, 'H W 3']
  label: str


@dataclass(frozen=True)
class Gallery:
  """The images of one split: ten classes of digits, and tiles of photos."""

  split: str
  size: int
  digits: tuple[tuple[Picture, ...], ...]
  tiles: dict[str, tuple[Picture, ...]]

  def draw_digits(
    self, classes: Sequence[int], rng: np.random.Generator
  ) -> list[Picture]:
    """One image for each class asked for, none of them twice."""
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
    """A random square piece of a random tile of one of the photographs."""
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
  """The images of a split, `size` pixels square, u8 RGB, ink on white.

  The split is fixed: it depends on no seed, so that every run of the demo and
  every reader of its page means the same held-out images.
  """
  if split not in SPLITS:
    raise ValueError(f'split is {split!r}, not one of {SPLITS}')
  # Here, not above: scikit-learn takes a second to import.
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
