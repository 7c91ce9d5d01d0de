"""The demo's classes: held-out characters look like none of training."""

import numpy as np
from PIL import Image

from mmicl_jax.demo import fonts


def coarse(ink, side: int = 10) -> np.ndarray:
  """Another measure than the one that chose: correlation, another grid."""
  image = Image.fromarray(np.ascontiguousarray(ink))
  vector = np.asarray(image.resize((side, side)), np.float32).ravel()
  vector -= vector.mean()
  return vector / np.linalg.norm(vector)


def test_no_character_is_on_both_sides():
  trained, held_out = fonts.characters()
  assert len(held_out) == fonts.HELD_OUT and len(trained) > 600
  assert not set(trained) & set(held_out)
  assert not any(c.isdigit() or c.isspace() for c in (*trained, *held_out))
  assert all(c.isalpha() for c in held_out)


def test_look_alikes_stand_for_one_another():
  """Of Latin, Greek and Cyrillic A one is left, and so on."""
  chosen = {*fonts.characters()[0], *fonts.characters()[1]}
  for alike in ('AΑА', 'OОΟ', 'PРΡ', 'XХΧ', 'sSѕ', 'bdpq', 'MWШ'[:2]):
    assert len(chosen & set(alike)) <= 1, alike


def test_held_out_letters_are_like_no_view_of_a_trained_character():
  trained, held_out = fonts.characters()
  known = np.stack(
    [
      coarse(view)
      for c in trained[::4]
      for view in fonts.views(np.asarray(fonts.inks(c)[0]))
    ]
  )
  asked = np.stack([coarse(fonts.inks(c)[0]) for c in held_out])
  assert (asked @ known.T).max() < 0.95


def test_the_eight_views_differ_and_begin_as_it_stands():
  ink = np.arange(9, dtype=np.uint8).reshape(3, 3)
  views = [view.tobytes() for view in fonts.views(ink)]
  assert views[0] == ink.tobytes() and len(set(views)) == 8
