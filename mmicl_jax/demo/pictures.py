"""The demo's images: glyphs of many scripts, and handwritten digits.

A glyph is a character of matplotlib's fonts (fonts.py), drawn with another
font, place, size, slant, stroke, ink and noise each time. In training it is
also turned and mirrored, which gives eight classes. Digits are scikit-learn's:
nothing is ever trained on them.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from mmicl_jax.demo import fonts

SPLITS = ('train', 'heldout', 'digits')
VIEWS = 8
PER_KIND = 8  # pictures of each class in training


@dataclass(frozen=True)
class Picture:
  """One image: its name, its pixels, and what it shows.

  name: unique to the pixels, since it says where they come from; the PNG file
  has this name, too. label: a character or a digit.
  """

  name: str
  pixels: UInt8[np.ndarray, 'H W 3']
  label: str


@dataclass(frozen=True)
class PictureKind:
  """One class: a character as it stands (view 0), or in another view."""

  character: str
  view: int = 0


@dataclass(frozen=True)
class Gallery:
  """The classes of one split; a class is its place in `kinds`."""

  split: str
  size: int
  kinds: tuple[PictureKind, ...]

  @functools.cached_property
  def upright(self) -> 'Gallery':
    """The classes that are not turned: those that can be named in text."""
    return dataclasses.replace(
      self, kinds=tuple(kind for kind in self.kinds if not kind.view)
    )

  def count(self, kind: int) -> int:
    """How many pictures a class has."""
    if self.split == 'digits':
      return len(_digits(self.size)[int(self.kinds[kind].character)])
    return PER_KIND if self.split == 'train' else 2 * PER_KIND

  def picture(self, kind: int, number: int) -> Picture:
    """One of a class's pictures, always the same for the same number."""
    if self.split == 'digits':
      return _digits(self.size)[int(self.kinds[kind].character)][number]
    return _glyph(self.kinds[kind], number, self.size)

  def draw_kinds(self, n: int, rng: np.random.Generator) -> list[int]:
    """Draws n different classes."""
    return [int(i) for i in rng.choice(len(self.kinds), n, replace=False)]

  def draw(
    self, kinds: Sequence[int], rng: np.random.Generator
  ) -> list[Picture]:
    """Draws one picture for each class of the list; none comes twice."""
    drawn: list[Picture] = []
    left: dict[int, list[int]] = {}
    for kind in kinds:
      if kind not in left:
        left[kind] = rng.permutation(self.count(kind)).tolist()
      drawn.append(self.picture(kind, left[kind].pop()))
    return drawn


@functools.cache
def load_gallery(split: str = 'train', size: int = 20) -> Gallery:
  """The classes of a split; their pictures are `size` pixels square.

  'train' and 'heldout' are glyphs of different characters, 'digits' are
  handwritten. Raises ValueError for an unknown split.
  """
  if split not in SPLITS:
    raise ValueError(f'split is {split!r}, not one of {SPLITS}')
  if split == 'digits':
    return Gallery(split, size, tuple(PictureKind(str(i)) for i in range(10)))
  trained, held_out = fonts.characters()
  if split == 'heldout':
    return Gallery(split, size, tuple(map(PictureKind, held_out)))
  kinds = (PictureKind(c, view) for c in trained for view in range(VIEWS))
  return Gallery(split, size, tuple(kinds))


@functools.cache
def _glyph(kind: PictureKind, number: int, size: int) -> Picture:
  rng = np.random.default_rng((ord(kind.character), kind.view, number))
  inks = fonts.inks(kind.character)
  ink = inks[int(rng.integers(len(inks)))]
  if rng.random() < 0.25:
    ink = ink.filter(ImageFilter.MaxFilter(3))  # a broader stroke
  if kind.view:
    squares = list(fonts.views(np.asarray(ink)))
    ink = Image.fromarray(np.ascontiguousarray(squares[kind.view]))
  # Drawn at twice the size, then reduced, so that edges are smooth.
  ink = ink.transform(
    (2 * size, 2 * size),
    Image.Transform.AFFINE,
    _pose(rng, size),
    Image.Resampling.BILINEAR,
  )
  if rng.random() < 0.25:
    coarse = int(rng.integers(size * 3 // 5, size))
    ink = ink.resize((coarse, coarse), Image.Resampling.BOX)
    ink = ink.resize((size, size), Image.Resampling.BICUBIC)
  else:
    ink = ink.resize((size, size), Image.Resampling.BOX)
  paper, dark = rng.uniform(205, 255), rng.uniform(0, 90)
  grey = paper + (dark - paper) * (np.asarray(ink, np.float32) / 255)
  grey += rng.normal(size=grey.shape) * rng.uniform(0, 10)
  name = f'glyph-{ord(kind.character):05x}-{kind.view}-{number}'
  return Picture(name, _rgb(grey), kind.character)


def _pose(rng: np.random.Generator, size: int) -> tuple[float, ...]:
  """A turn, slant, stretch, scale and shift, as Pillow's inverse map."""
  angle, slant = rng.normal() * 0.06, rng.uniform(-0.12, 0.12)
  stretch = np.exp(rng.normal(size=2) * 0.06)
  scale = rng.uniform(0.75, 0.95) * size / fonts.CELL
  turn = np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  forward = turn @ np.array([[1, slant], [0, 1]]) @ np.diag(stretch) * scale
  back = np.linalg.inv(forward)
  middle = size / 2 + rng.uniform(-1.2, 1.2, 2) * size / 20
  shift = fonts.CELL / 2 - back @ middle
  # Half, since the map begins at a picture of twice the size.
  (a, b), (d, e) = back / 2
  return a, b, shift[0], d, e, shift[1]


@functools.cache
def _digits(size: int) -> tuple[tuple[Picture, ...], ...]:
  """scikit-learn's 1,797 digits by class, dark on white."""
  # Imported here, since it takes a second.
  from sklearn import datasets

  flat, labels = datasets.load_digits(return_X_y=True)
  kinds: list[list[Picture]] = [[] for _ in range(10)]
  for i, (ink, label) in enumerate(zip(flat, labels, strict=True)):
    grey = np.round(255 - ink.reshape(8, 8) * (255 / 16)).astype(np.uint8)
    grey = Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC)
    pixels = _rgb(np.asarray(grey, np.float32))
    kinds[int(label)].append(Picture(f'digit-{i:04d}', pixels, str(label)))
  return tuple(map(tuple, kinds))


def _rgb(grey: np.ndarray) -> UInt8[np.ndarray, 'H W 3']:
  pixels = np.clip(grey, 0, 255).astype(np.uint8)
  pixels = np.repeat(pixels[..., None], 3, axis=-1)
  pixels.setflags(write=False)  # it is shared by all who draw it
  return pixels
