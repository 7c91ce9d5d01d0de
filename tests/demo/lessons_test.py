"""The demo's curriculum: shapes, order, and what each phase may see."""

import numpy as np
import pytest

from mmicl_jax.demo import data
from mmicl_jax.demo.lessons import PHASES, HeldOut, LessonStream
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import stages


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory) -> Tokenizer:
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  path.write_bytes(data.demo_vocabulary())
  return Tokenizer(path)


@pytest.mark.slow
@pytest.mark.parametrize('phase', PHASES, ids=lambda phase: phase.name)
def test_every_lesson_fits_its_shapes(phase, tokenizer, recwarn):
  """A prompt that does not fit would be shortened, and warns."""
  stream = LessonStream(phase, tokenizer, seed=3)
  first, rows = 0, phase.batch_size
  for lesson in phase.lessons:
    for i, shape in enumerate(lesson.shapes):
      begin = -(-first // len(lesson.shapes)) * len(lesson.shapes)
      batch = stream.batch(begin + i)
      assert batch['encoder_input_tokens'].shape == (rows, shape.inputs_length)
      assert batch['encoder_images'].shape[:2] == (rows, shape.max_images)
    first += lesson.steps
  assert not recwarn.list
  assert stages.patterns(phase.profile)


@pytest.mark.slow
def test_the_stream_goes_on_where_its_state_says(tokenizer):
  phase = PHASES[1]
  whole = LessonStream(phase, tokenizer, seed=0)
  batches = [batch for batch, _ in _take(whole, 3)]
  assert whole.get_state()['step'] == 3
  again = LessonStream(phase, tokenizer, seed=0)
  again.set_state({'step': 2, 'seed': 0})
  (resumed, _), *_ = _take(again, 1)
  for name, value in batches[2].items():
    np.testing.assert_array_equal(resumed[name], value)
  with pytest.raises(UserError, match='begun with seed 5, not 0'):
    again.set_state({'step': 2, 'seed': 5})


def test_interleaved_images_with_invented_words_come_in_stage_2_alone():
  language, stage_1, stage_2 = PHASES
  for lesson in language.lessons:
    for shape in lesson.shapes:
      assert not shape.max_images
      assert all(task.startswith('told_') for task in shape.mix)
  (shape,) = stage_1.lessons[0].shapes
  assert set(shape.mix) == {'name_letter'}
  assert 'taught_icl_2_to_5' in stage_2.lessons[0].shapes[0].mix


def test_a_longer_phase_has_the_same_lessons():
  longer = PHASES[0].longer(3)
  assert longer.steps == 3 * PHASES[0].steps
  assert [x.shapes for x in longer.lessons] == [
    x.shapes for x in PHASES[0].lessons
  ]


@pytest.mark.slow
def test_held_out_counts_the_word_alone(tokenizer):
  batches = [batch for batch, _ in HeldOut('icl_words_4', tokenizer, 5)]
  weights = np.concatenate([b['decoder_loss_weights'] for b in batches])
  assert weights.sum() == len(weights) == 256
  targets = np.concatenate([b['decoder_target_tokens'] for b in batches])
  words = {tokenizer.decode([i]) for i in targets[:, 0].tolist()}
  assert words <= set(data.words.LABELS) and len(words) > 20


def _take(stream, count):
  iterator = iter(stream)
  taken = [next(iterator) for _ in range(count)]
  iterator.close()
  return taken
