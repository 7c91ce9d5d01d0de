"""The demo's images: real, split by class without a leak."""

import numpy as np
import pytest

from mmicl_jax.demo import pictures


def test_splits_share_no_class():
  train, heldout, digits = map(pictures.load_gallery, pictures.SPLITS)
  names = [{kind.character for kind in x.kinds} for x in (train, heldout)]
  assert not names[0] & names[1]
  assert len(train.kinds) == 8 * len(names[0])
  assert len(heldout.kinds) == 160 and len(digits.kinds) == 10
  assert all(not kind.view for kind in heldout.kinds)
  assert len(train.upright.kinds) == len(names[0])


def test_a_picture_repeats_and_its_name_is_its_own():
  images = pictures.load_gallery('train', 20)
  drawn = [images.picture(kind, i) for kind in (0, 1, 9) for i in range(3)]
  assert len({p.name for p in drawn}) == 9
  assert len({p.pixels.tobytes() for p in drawn}) == 9
  pictures._glyph.cache_clear()
  again = images.picture(9, 2)
  np.testing.assert_array_equal(again.pixels, drawn[-1].pixels)
  assert again.label == images.kinds[9].character


def test_digits_are_what_scikit_learn_ships():
  from sklearn import datasets

  flat, labels = datasets.load_digits(return_X_y=True)
  images = pictures.load_gallery('digits', 8)
  assert sum(images.count(kind) for kind in range(10)) == 1797
  for kind in range(10):
    picture = images.picture(kind, 5)
    i = int(picture.name.removeprefix('digit-'))
    assert picture.label == str(labels[i]) == str(kind)
    ink = 255 - picture.pixels[..., 0].astype(float)
    np.testing.assert_allclose(ink, flat[i].reshape(8, 8) * 255 / 16, atol=1.5)


def test_size_and_dtype():
  picture = pictures.load_gallery('heldout', 24).picture(3, 0)
  assert picture.pixels.shape == (24, 24, 3)
  assert picture.pixels.dtype == np.uint8
  # Dark ink on a light page, and neither fills the picture.
  assert np.median(picture.pixels) > 180 and picture.pixels.min() < 130


def test_draws_never_repeat_an_image():
  images = pictures.load_gallery('train', 20)
  rng = np.random.default_rng(0)
  drawn = images.draw([4] * pictures.PER_KIND, rng)
  assert len({p.name for p in drawn}) == pictures.PER_KIND


def test_unknown_split():
  with pytest.raises(ValueError, match='not one of'):
    pictures.load_gallery('test')
