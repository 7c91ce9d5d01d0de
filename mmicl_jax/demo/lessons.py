"""The demo's curriculum: which prompts, of what size, in which phase.

In-context matching takes two steps: a label looks up its image, then the query
looks up the label whose image is like its own. Neither step lowers the loss
without the other, so a small model that starts with full prompts guesses
between the two words for thousands of training steps. So the first phase, in
the place of pre-trained towers, teaches the parts apart: the language model
matches words in text, first with label and thing side by side, and the vision
tower names single images. Stage 1 joins the two; stage 2 interleaves images.
"""

import bisect
import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmicl_jax.context.turns import Example
from mmicl_jax.data.features import Features, FeatureSpec, collate, featurize
from mmicl_jax.demo.data import batch_examples
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer

SIZE = 16  # pixels of an image's side
QUERIES = 2
TARGETS_LENGTH = 12


@dataclasses.dataclass(frozen=True)
class Lesson:
  """`steps` batches of one mixture of tasks.

  inputs_length, max_images: the shape that every batch is padded to.
  """

  steps: int
  mix: Mapping[str, int | float]
  inputs_length: int
  max_images: int

  @property
  def spec(self) -> FeatureSpec:
    """The shapes of this lesson's features."""
    return FeatureSpec(
      self.inputs_length, TARGETS_LENGTH, self.max_images, SIZE, QUERIES
    )


@dataclasses.dataclass(frozen=True)
class Phase:
  """One call of the trainer: what is trained, and on which lessons."""

  name: str
  profile: str
  note: str
  lessons: tuple[Lesson, ...]
  batch_size: int
  learning_rate: float

  @property
  def steps(self) -> int:
    """Training steps of all lessons."""
    return sum(lesson.steps for lesson in self.lessons)


class LessonStream:
  """A phase's batches for `loop.train`; a batch depends on its step alone.

  A thread makes the next batches while the device computes. change: what is
  done to a batch's examples, as an ablation does.
  """

  def __init__(
    self,
    phase: Phase,
    tokenizer: Tokenizer,
    seed: int,
    change: Callable[[Sequence[Example]], list[Example]] | None = None,
  ):
    self._phase, self._tokenizer, self._seed = phase, tokenizer, seed
    self._change = change or list
    self._ends = list(itertools.accumulate(x.steps for x in phase.lessons))
    self._step = 0

  def batch(self, step: int) -> Features:
    """The batch of one step of the phase, counted from 0."""
    lesson = self._phase.lessons[bisect.bisect_right(self._ends, step)]
    size = self._phase.batch_size
    items = batch_examples(lesson.mix, self._seed, step * size, size, size=SIZE)
    examples = self._change([item.example for item in items])
    return collate(
      [featurize(one, self._tokenizer, lesson.spec) for one in examples]
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
    """The number of batches given so far, and the seed."""
    return {'step': self._step, 'seed': self._seed}

  def set_state(self, state: Any) -> None:
    """Goes on from a state of `get_state`; another seed raises UserError."""
    if state['seed'] != self._seed:
      raise UserError(
        f'the run was begun with seed {state["seed"]}, not {self._seed}: give '
        'that seed, or another folder'
      )
    self._step = state['step']


class HeldOut:
  """256 held-out items of a task, which `loop.train` evaluates now and then.

  Only the first token counts: the label word, not the end token after it.
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
    """None: each pass goes over everything."""
    return None

  def set_state(self, state: Any) -> None:
    """Ignores the state."""
    del state


FULL = Lesson(0, {}, inputs_length=64, max_images=5)

# Tasks that compare, add or read several images.
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
