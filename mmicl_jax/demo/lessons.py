"""The demo's curriculum: which prompts, of what size, in which phase.

In-context matching takes two steps: a label looks up its image, then the query
looks up the label whose image is like its own. Neither step lowers the loss
without the other. So the language model, in the place of a pre-trained one,
first learns to match in text, where characters stand for images; as there are
hundreds, it learns to match whatever is alike. Stage 1 lets it see characters
that it knows. Stage 2 interleaves images, of classes without a name as well.
"""

import bisect
import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmicl_jax.context.turns import Example
from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import Features, FeatureSpec, collate, featurize
from mmicl_jax.demo.data import batch_examples
from mmicl_jax.demo.tasks import SEVERAL
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import stages

SIZE = 20  # pixels of an image's side
QUERIES = 1


@dataclasses.dataclass(frozen=True)
class Shape:
  """A mixture of tasks, and the shape that its batches are padded to."""

  mix: Mapping[str, int | float]
  inputs_length: int
  max_images: int
  targets_length: int = 2  # one word, and the end

  @property
  def spec(self) -> FeatureSpec:
    """The shapes of its features."""
    return FeatureSpec(
      self.inputs_length, self.targets_length, self.max_images, SIZE, QUERIES
    )


@dataclasses.dataclass(frozen=True)
class Lesson:
  """`steps` batches, of each of the shapes in turn."""

  steps: int
  shapes: tuple[Shape, ...]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One call of the trainer: what is trained, and on which lessons."""

  name: str
  profile: stages.Profile
  note: str
  lessons: tuple[Lesson, ...]
  batch_size: int
  learning_rate: float

  @property
  def steps(self) -> int:
    """Training steps of all lessons."""
    return sum(lesson.steps for lesson in self.lessons)

  def longer(self, times: int) -> 'Phase':
    """The same phase with that many times the steps of each lesson."""
    lessons = (
      dataclasses.replace(x, steps=x.steps * times) for x in self.lessons
    )
    return dataclasses.replace(self, lessons=tuple(lessons))


class LessonStream:
  """A phase's batches for `loop.train`; a batch depends on its step alone.

  A thread makes the next batches while the device computes.
  """

  def __init__(
    self,
    phase: Phase,
    tokenizer: Tokenizer,
    seed: int,
    seen: FeatureStore | None = None,
    change: Callable[[Sequence[Example]], list[Example]] | None = None,
  ):
    """seen: what frozen towers read, which then stands for the images.

    change: makes other prompts of a batch's.
    """
    self._phase, self._tokenizer, self._seed = phase, tokenizer, seed
    self._seen, self._change = seen, change or list
    self._ends = list(itertools.accumulate(x.steps for x in phase.lessons))
    self._step = 0

  def batch(self, step: int) -> Features:
    """The batch of one step of the phase, counted from 0."""
    lesson = self._phase.lessons[bisect.bisect_right(self._ends, step)]
    shape = lesson.shapes[step % len(lesson.shapes)]
    size = self._phase.batch_size
    items = batch_examples(shape.mix, self._seed, step * size, size, size=SIZE)
    examples = self._change([item.example for item in items])
    # Text alone has no images, and the towers are not run over padding.
    images = any(example.images for example in examples)
    seen = self._seen if images else None
    return collate(
      [
        featurize(one, self._tokenizer, shape.spec, features_of=seen)
        for one in examples
      ]
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
  """256 items of unseen classes, which `loop.train` evaluates now and then.

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


FULL = Shape({}, inputs_length=24, max_images=5)


def _shapes(told: str, words: str) -> dict[str, Shape]:
  """Batches of short, of longer and of the longest prompts, and of others.

  told, words: how the names of tasks begin, without and with invented words.
  """
  images = 0 if told else 1
  several = {f'{told}{task}': 1 for task in (*SEVERAL, 'composition')}
  return {
    'short': Shape({f'{words}icl_2_to_5': 1}, 24, 6 * images),
    'longer': Shape({f'{words}icl_6_to_10': 1}, 48, 11 * images),
    'longest': Shape({f'{words}icl_11_to_15': 1}, 64, 16 * images),
    # The longest answer names three images. Words are among them, so that an
    # ablation of tasks with several images leaves something of each batch.
    'several': Shape(
      {**several, f'{words}icl_2_to_5': 2}, 24, 6 * images, targets_length=10
    ),
  }


_TOLD, _SHOWN = _shapes('told_', 'told_'), _shapes('', 'taught_')
_TURNS = ('short', 'several', 'longer', 'short', 'several', 'longest')
_NAME = Shape({'name_letter': 1}, 8, 1)
_TOLD_PAIR = Shape({'told_icl_words_2': 1}, 12, 0)

PHASES = (
  Phase(
    'language',
    ('^t5/',),
    'the language model, as a stand-in for a pre-trained one: words matched '
    'in text alone',
    (
      Lesson(800, (_TOLD_PAIR,)),
      Lesson(500, (_TOLD['short'],)),
      Lesson(900, (_TOLD['short'], _TOLD['longer'], _TOLD['longest'])),
      Lesson(700, (_TOLD['several'],)),
      Lesson(
        2200,
        (
          *(_TOLD[turn] for turn in _TURNS),
          _TOLD_PAIR,  # or it is forgotten
          Shape({'told_name_letter': 1}, 8, 0),
        ),
      ),
    ),
    batch_size=64,
    learning_rate=2e-3,
  ),
  Phase(
    'stage 1',
    'pretrain',
    'the Q-Former and the projection learn to speak to the frozen language '
    'model: single letters are named',
    (Lesson(200, (_NAME,)),),
    batch_size=64,
    learning_rate=3e-4,
  ),
  Phase(
    'stage 2',
    'tune',
    'projection, queries and values of attention learn from prompts with '
    'interleaved images',
    (Lesson(4000, tuple(_SHOWN[turn] for turn in _TURNS)),),
    batch_size=64,
    learning_rate=2e-3,
  ),
)
