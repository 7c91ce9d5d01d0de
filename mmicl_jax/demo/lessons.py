"""The demo's curriculum: which prompts, of what size, in which phase.

In-context matching is a circuit of two hops (a label looks up its image, the
query looks up the label whose image is like its own), and neither hop pays
before the other stands: from the full format alone a small model guesses
between the two words for thousands of steps. So the stand-in for pre-trained
towers learns as its models did: the language model matches words in text,
first with label and thing side by side; the vision tower names single images.
Stage 1 joins the two, stage 2 brings interleaved images.
"""

import bisect
import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmicl_jax.data.features import Features, FeatureSpec, collate, featurize
from mmicl_jax.demo.data import batch_examples
from mmicl_jax.tokenizer import Tokenizer

SIZE = 16  # pixels a side
QUERIES = 2
TARGETS_LENGTH = 12


@dataclasses.dataclass(frozen=True)
class Lesson:
  """`steps` batches of one mixture; lengths are static shapes of a compile."""

  steps: int
  mix: Mapping[str, int | float]
  inputs_length: int
  max_images: int

  @property
  def spec(self) -> FeatureSpec:
    return FeatureSpec(
      self.inputs_length, TARGETS_LENGTH, self.max_images, SIZE, QUERIES
    )


@dataclasses.dataclass(frozen=True)
class Phase:
  """One call of the trainer: a profile of trainable parameters, lessons."""

  name: str
  profile: str
  note: str
  lessons: tuple[Lesson, ...]
  batch_size: int
  learning_rate: float

  @property
  def steps(self) -> int:
    return sum(lesson.steps for lesson in self.lessons)


class LessonStream:
  """A phase's batches for `loop.train`: step -> batch, a pure function.

  A thread makes batches ahead while the device computes.
  """

  def __init__(self, phase: Phase, tokenizer: Tokenizer, seed: int):
    self._phase, self._tokenizer, self._seed = phase, tokenizer, seed
    self._ends = list(itertools.accumulate(x.steps for x in phase.lessons))
    self._step = 0

  def batch(self, step: int) -> Features:
    lesson = self._phase.lessons[bisect.bisect_right(self._ends, step)]
    size = self._phase.batch_size
    items = batch_examples(lesson.mix, self._seed, step * size, size, size=SIZE)
    return collate(
      [featurize(i.example, self._tokenizer, lesson.spec) for i in items]
    )

  def __iter__(self) -> Iterator[tuple[Features, None]]:
    with ThreadPoolExecutor(1) as pool:
      steps = iter(range(self._step, self._phase.steps))
      ahead = deque(
        pool.submit(self.batch, step) for step in itertools.islice(steps, 4)
      )
      while ahead:
        batch = ahead.popleft().result()
        ahead.extend(
          pool.submit(self.batch, step) for step in itertools.islice(steps, 1)
        )
        self._step += 1
        yield batch, None

  def get_state(self) -> Any:
    return {'step': self._step, 'seed': self._seed}

  def set_state(self, state: Any) -> None:
    self._step = state['step']


class HeldOut:
  """A task on held-out images, for `loop.train` to evaluate now and then.

  Only the first token counts: the label word, not the end behind it.
  """

  def __init__(self, task: str, tokenizer: Tokenizer, seed: int):
    spec = FULL.spec
    items = batch_examples({task: 1}, seed, 0, 256, 'heldout', SIZE)
    rows = [featurize(item.example, tokenizer, spec) for item in items]
    for row in rows:
      row['decoder_loss_weights'][1:] = 0
    self._batches = [collate(rows[i : i + 64]) for i in range(0, 256, 64)]

  def __iter__(self) -> Iterator[tuple[Features, None]]:
    return ((batch, None) for batch in self._batches)

  def get_state(self) -> Any:
    return None

  def set_state(self, state: Any) -> None:
    del state  # each pass is over everything


FULL = Lesson(0, {}, inputs_length=64, max_images=5)

# Comparison, arithmetic and reading over several images.
SEVERAL = {
  'name_each': 2,
  'two_halves': 3,
  'digit_sum': 3,
  'larger': 3,
  'odd_one_out': 3,
}

PHASES = (
  Phase(
    'towers',
    'all',
    'everything, as a stand-in for pre-trained towers: words matched in '
    'text, single images named',
    (
      Lesson(300, {'told_near_words_2': 6, 'near_digit': 4}, 16, 1),
      Lesson(
        200,
        {'told_near_words_2': 2, 'told_near_words_4': 5, 'near_digit': 3},
        24,
        1,
      ),
      Lesson(
        350,
        {
          'told_near_words_4': 2,
          'told_icl_words_2': 3,
          'told_icl_words_4': 3,
          'near_digit': 1,
          'name_digit': 1,
        },
        64,
        1,
      ),
      Lesson(
        450,
        {
          'told_icl_words_2': 3,
          'told_icl_words_4': 6,
          'near_digit': 2,
          **{f'told_{task}': share for task, share in SEVERAL.items()},
        },
        64,
        1,
      ),
    ),
    batch_size=128,
    learning_rate=2e-3,
  ),
  Phase(
    'stage 1',
    'pretrain',
    'the Q-Former and the projection learn to speak to the frozen language '
    'model',
    (
      Lesson(
        350,
        {
          'near_words_2': 3,
          'near_words_4': 3,
          'name_digit': 2,
          'name_each': 2,
          'caption': 3,
        },
        64,
        5,
      ),
    ),
    batch_size=64,
    learning_rate=1e-3,
  ),
  Phase(
    'stage 2',
    'tune',
    'projection, queries and values of attention learn from prompts with '
    'interleaved images',
    (
      Lesson(
        2000,
        {
          'icl_words_4': 24,
          'icl_words_2': 10,
          'icl_words_1': 2,
          'name_digit': 2,
          'caption': 4,
          **SEVERAL,
        },
        64,
        5,
      ),
    ),
    batch_size=64,
    learning_rate=2e-3,
  ),
)
