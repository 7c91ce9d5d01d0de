"""The demo's images: real, split without a leak."""

import numpy as np
import pytest

from mmicl_jax.demo import pictures


def everything(split: str, size: int = 8) -> list[pictures.Picture]:
  images = pictures.load_gallery(split, size)
  digits = [p for kind in images.digits for p in kind]
  return digits + [p for tiles in images.tiles.values() for p in tiles]


def test_splits_share_no_image_and_no_pixels():
  train, heldout = everything('train'), everything('heldout')
  assert len(heldout) == 500 + 4
  assert len(train) == 1297 + 8
  assert not {p.name for p in train} & {p.name for p in heldout}
  assert not {p.pixels.tobytes() for p in train} & {
    p.pixels.tobytes() for p in heldout
  }


def test_every_class_is_in_both_splits():
  for split in pictures.SPLITS:
    for digit, kind in enumerate(pictures.load_gallery(split, 8).digits):
      assert len(kind) > 30
      assert all(p.label == str(digit) for p in kind)


def test_images_are_what_scikit_learn_ships():
  from sklearn import datasets

  source = datasets.load_digits()
  for picture in everything('heldout')[:20]:
    i = int(picture.name.removeprefix('digit-'))
    assert picture.label == str(source.target[i])
    ink = 255 - picture.pixels[..., 0].astype(float)
    np.testing.assert_allclose(ink, source.images[i] * 255 / 16, atol=0.5)


def test_size_and_dtype():
  picture = pictures.load_gallery('train', 24).digits[3][0]
  assert picture.pixels.shape == (24, 24, 3)
  assert picture.pixels.dtype == np.uint8


def test_draws_never_repeat_an_image():
  images = pictures.load_gallery('heldout', 8)
  rng = np.random.default_rng(0)
  for _ in range(50):
    drawn = images.draw_digits([4] * 12, rng)
    assert len({p.name for p in drawn}) == 12


def test_crops_stay_inside_their_tile():
  images = pictures.load_gallery('heldout', 16)
  names = {p.name for tiles in images.tiles.values() for p in tiles}
  rng = np.random.default_rng(0)
  for _ in range(50):
    crop = images.draw_crop(rng)
    photo, tile, top, left, side = crop.name.split('-')
    assert f'{photo}-{tile}' in names
    assert int(top) + int(side) <= 142 and int(left) + int(side) <= 160
    assert crop.pixels.shape == (16, 16, 3)


def test_unknown_split():
  with pytest.raises(ValueError, match='validation'):
    pictures.load_gallery('validation')
