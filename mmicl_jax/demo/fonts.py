"""The demo's classes: characters of many scripts, from matplotlib's fonts.

Characters that look alike, even when one of them is turned or mirrored, must
not be on both sides of the split, or a class that is held out would have been
seen in training. So a character is left out if it looks like one that is taken
already. Letters come first, so that a symbol gives way to a letter.
"""

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

CELL = 40  # pixels of an ink's side
HELD_OUT = 160  # letters
# Upright and slanted, but no italics: those have other shapes for a letter.
FONTS = (
  'DejaVuSans', 'DejaVuSans-Bold', 'DejaVuSans-Oblique',
  'DejaVuSans-BoldOblique', 'DejaVuSerif', 'DejaVuSerif-Bold',
  'DejaVuSansMono', 'DejaVuSansMono-Bold', 'STIXGeneral', 'STIXGeneralBol',
)  # fmt: skip
_COMPARED = ('DejaVuSans', 'DejaVuSerif', 'DejaVuSansMono')
_ALIKE = 0.88  # the cosine of two inks from which on they look alike
_COARSE = 12  # pixels of the side that inks are compared at
_LETTERS, _SYMBOLS = ('Lu', 'Ll', 'Lo'), ('So', 'Sm')
# Hundreds of near copies each: box drawing, Braille, hexagrams, tetragrams,
# dominoes and cards. And what <imageK> and a prompt are written with.
_LEFT_OUT = (
  (0x2500, 0x25A0), (0x2800, 0x2900), (0x4DC0, 0x4E00), (0x1D300, 0x1D360),
  (0x1F030, 0x1F100), (0x21, 0x41),
)  # fmt: skip


@functools.cache
def characters() -> tuple[tuple[str, ...], tuple[str, ...]]:
  """The characters to train on, and the letters that are held out.

  No two of all of these look alike. The split depends on no seed, so that it
  is the same in every run.
  """
  candidates, alike = _likeness()
  kept: list[int] = []
  for i in range(len(candidates)):
    if not alike[i, kept].any():
      kept.append(i)
  chosen = [candidates[i] for i in kept]
  letters = [c for c in chosen if unicodedata.category(c) in _LETTERS]
  order = np.random.default_rng(2309_07915).permutation(len(letters))
  out = {letters[i] for i in order[:HELD_OUT]}
  return (
    tuple(c for c in chosen if c not in out),
    tuple(c for c in chosen if c in out),
  )


@functools.cache
def inks(character: str) -> tuple[Image.Image, ...]:
  """The character in each font that has it: 8-bit ink, white on black."""
  found = (
    _ink(name, character) for name in FONTS if ord(character) in _covered(name)
  )
  return tuple(ink for ink in found if ink is not None)


def views(
  ink: UInt8[np.ndarray, '*N S S'],
) -> Iterator[UInt8[np.ndarray, '*N S S']]:
  """Yields the eight views of a square: four turns, and four of its mirror."""
  for way in (ink, ink[..., ::-1]):
    for turns in range(4):
      yield np.rot90(way, turns, (-2, -1))


def _candidates() -> list[str]:
  """What the first font can write and no other character is made of."""
  found = [
    chr(code)
    for code in sorted(_covered(FONTS[0]))
    if not any(low <= code < high for low, high in _LEFT_OUT)
  ]
  found = [
    c
    for c in found
    if unicodedata.category(c) in (*_LETTERS, *_SYMBOLS)
    and unicodedata.normalize('NFKD', c) == c
    and _ink(FONTS[0], c)
  ]
  return sorted(found, key=lambda c: unicodedata.category(c) not in _LETTERS)


def _likeness() -> tuple[list[str], Bool[np.ndarray, 'N N']]:
  """The candidates, and which look alike in any two fonts and any view."""
  candidates = _candidates()
  owners, drawn = [], []
  for i, character in enumerate(candidates):
    for name in _COMPARED:
      if ord(character) in _covered(name):
        ink = _ink(name, character)
        if ink is not None:
          owners.append(i)
          drawn.append(np.asarray(ink))
  squares = np.stack(drawn)
  alike = np.zeros((len(candidates),) * 2, bool)
  vectors = _vectors(squares)
  owner = np.array(owners)
  for view in views(squares):
    one, other = np.nonzero(vectors @ _vectors(view).T > _ALIKE)
    alike[owner[one], owner[other]] = True
  return candidates, alike | alike.T


def _vectors(
  squares: UInt8[np.ndarray, 'N S S'],
) -> Float[np.ndarray, 'N D']:
  """Coarse squares as unit vectors, whose products are their likeness."""
  coarse = np.stack(
    [
      np.asarray(
        Image.fromarray(np.ascontiguousarray(square)).resize(
          (_COARSE, _COARSE), Image.Resampling.BOX
        ),
        np.float32,
      ).ravel()
      for square in squares
    ]
  )
  return coarse / np.linalg.norm(coarse, axis=1, keepdims=True)


def _ink(name: str, character: str) -> Image.Image | None:
  """A character whose longer side fills the cell; None if it has no ink."""
  font = _font(name)
  left, top, right, bottom = (int(x) for x in font.getbbox(character))
  if right <= left or bottom <= top:
    return None
  page = Image.new('L', (right - left, bottom - top))
  ImageDraw.Draw(page).text((-left, -top), character, fill=255, font=font)
  box = page.getbbox()
  if box is None:
    return None
  page = page.crop(box)
  scale = CELL / max(page.size)
  size: Sequence[int] = [max(1, round(side * scale)) for side in page.size]
  page = page.resize(
    (size[0], size[1]),
    Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX,
  )
  cell = Image.new('L', (CELL, CELL))
  cell.paste(page, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
  return cell


@functools.cache
def _font(name: str) -> ImageFont.FreeTypeFont:
  return ImageFont.truetype(_path(name), 44)


@functools.cache
def _covered(name: str) -> frozenset[int]:
  """The characters that a font has, as numbers."""
  from matplotlib.ft2font import FT2Font

  return frozenset(FT2Font(_path(name)).get_charmap())


def _path(name: str) -> str:
  # Imported here, since it takes a second.
  import matplotlib

  return str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / f'{name}.ttf')
