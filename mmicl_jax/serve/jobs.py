"""What a client asks of the server's engine, and what comes back: the contract.

A job is made by any thread with Predictor.fitted, which uses no device. Then
`Scheduler.submit(model, job, listener, deadline)` returns a Ticket at once or
raises a Refused. The engine's thread calls listener(event) for each event, in
this order, and must not be held up by it (an event loop hands events over with
loop.call_soon_threadsafe):

  Started      once, when the job leaves the queue
  NewTokens    of an AnswerJob: any number for each choice
  Finished     of an AnswerJob: one for each choice, after its last NewTokens
  Rated        of a RankJob: one
  Looked       of an AttentionJob: one
  Failed       instead of all that has not come yet; it may be the first event

The last event of a job is Rated, Looked, Failed, or its last choice's Finished.
`ticket.cancel()` ends a job without an event: once it returned, no call of the
listener begins. `ticket.cancel(choice)` ends one choice in the same way, and
the job when no other choice is left.

The events of an AnswerJob are those of Predictor.answers, whatever else runs:

  greedy       answers([prompt], options)
  sampling     choice i: answers([prompt], options, np.uint32([rows[i]]))
  beams        answers([prompt], options): choice 0 is the best, the others are
               its `others`; sampled beams depend on rows[0]

In float32 the tokens are equal and scores differ by at most 1e-5.

Scheduler (scheduler.py), for one or several models by name:

  Scheduler({name: predictor}, pools=..., max_new_tokens=64, max_queue=None)
  start()                    starts the thread, which warms up first
  submit(model, job, listener, deadline=None) -> Ticket
                             deadline: by time.monotonic; raises UserError for
                             a job that is too long, or a Refused. Jobs may come
                             during the warm-up, and wait for its end
  status()                   'warming', 'ready', 'stalled', 'dead', 'draining'
  counts(model=None) -> Counts
  drain(timeout, coming) -> bool
                             fails jobs that wait, refuses new ones unless
                             `coming()`, and waits for those that run; True if
                             all have ended
"""

import dataclasses
from collections.abc import Callable

from jaxtyping import Float
from numpy import ndarray

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.attention import Attended
from mmicl_jax.inference.prompts import Request

MAX_TOP = 20  # likeliest tokens that a job can ask for beside the chosen one


@dataclasses.dataclass(frozen=True, eq=False)
class AnswerJob:
  """A request for answers to one prompt.

  prompt: from Predictor.fitted. options: as for Predictor.answers, without
  stop: who serves looks for stop strings in the text and cancels the choice.
  rows: a number below 2 ** 32 for each choice that is sampled, on which with
  options.seed alone its tokens depend; one number for greedy and for beams,
  where options.num_return_sequences says how many choices there are.
  top_logprobs: how many of the likeliest tokens NewTokens names; 0 with beams.
  Raises UserError for values that do not fit together.
  """

  prompt: Request
  options: Options
  rows: tuple[int, ...] = (0,)
  top_logprobs: int = 0

  def __post_init__(self):
    options = self.options
    if options.stop:
      raise UserError('stop is not for the engine: look for it in the text.')
    if not 0 <= self.top_logprobs <= MAX_TOP:
      raise UserError(
        f'top_logprobs is {self.top_logprobs}: give a number from 0 to '
        f'{MAX_TOP}.'
      )
    if not self.rows or not all(0 <= row < 2**32 for row in self.rows):
      raise UserError(
        f'rows is {self.rows}: give a number from 0 to {2**32 - 1} for each '
        'choice.'
      )
    if self.searches and self.top_logprobs:
      raise UserError(
        'top_logprobs cannot be told of beams: search with num_beams 1.'
      )
    if not self.searches and options.num_return_sequences > 1:
      raise UserError(
        'num_return_sequences is for beams: give a number in rows for each '
        'sample.'
      )
    if len(self.rows) > 1 and (self.searches or not options.do_sample):
      raise UserError(
        f'{len(self.rows)} rows without sampling would be {len(self.rows)} '
        'times the same answer: give one.'
      )

  @property
  def searches(self) -> bool:
    """Whether it is a beam search, whose tokens are known at its end only."""
    return self.options.num_beams > 1

  @property
  def choices(self) -> int:
    """How many answers come back."""
    if self.searches:
      return self.options.num_return_sequences
    return len(self.rows)


@dataclasses.dataclass(frozen=True, eq=False)
class RankJob:
  """A request for the log-probabilities of given answers to one prompt.

  candidates: the ids of each, with the end token. Raises UserError if there is
  none, or if one is empty.
  """

  prompt: Request
  candidates: tuple[tuple[int, ...], ...]

  def __post_init__(self):
    if not self.candidates or not all(self.candidates):
      raise UserError('candidates: give at least one, each with its end token.')


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionJob:
  """A request for where the tokens of a given answer look.

  answer: its ids, without the end token. Raises UserError if there is none.
  """

  prompt: Request
  answer: tuple[int, ...]

  def __post_init__(self):
    if not self.answer:
      raise UserError('answer: give a text with at least one token.')


Job = AnswerJob | RankJob | AttentionJob


@dataclasses.dataclass(frozen=True)
class Started:
  """The job has left the queue.

  cached: whether the prompt's keys and values were known from before, so that
  nothing of it needs to be computed.
  """

  cached: bool


@dataclasses.dataclass(frozen=True)
class NewTokens:
  """The tokens that a choice got since its last event, the end token included.

  top: for each token the ids and log-probabilities of the job's top_logprobs
  likeliest ones, the best first; empty if none were asked for.
  """

  choice: int
  tokens: tuple[int, ...]
  log_probs: tuple[float, ...]
  top: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Finished:
  """A choice is complete.

  score: as Answer.score. reason: 'stop' if its last token is the end token,
  otherwise 'length'.
  """

  choice: int
  score: float
  reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Rated:
  """For each candidate the log-probabilities of its tokens."""

  log_probs: tuple[Float[ndarray, '_'], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
  """For each token of the answer what it attends to."""

  tokens: tuple[Attended, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Failed:
  """The job has ended without (all of) its answer.

  error: UserError if the client can mend it, OutOfMemory, DeadlinePassed,
  Draining or EngineDead as they say, or another exception, which is a fault.
  """

  error: Exception


@dataclasses.dataclass(frozen=True)
class Counts:
  """What the engine has to do and has done, of all models together.

  running, waiting: rows of jobs that have left the queue, and of those in it; a
  job has one for each sample or beam that is still wanted. slots: rows that can
  run at a time, without beams; slots_used: how many do. *_asked and
  *_known: prompts, and images, that were needed and that were found in the
  cache. steps, step_rows: runs of the decoder, and the rows that got a token
  from them. programs: how many have been compiled.
  """

  running: int = 0
  waiting: int = 0
  slots: int = 0
  slots_used: int = 0
  prompts_asked: int = 0
  prompts_known: int = 0
  images_asked: int = 0
  images_known: int = 0
  steps: int = 0
  step_rows: int = 0
  programs: int = 0


Event = Started | NewTokens | Finished | Rated | Looked | Failed
Listener = Callable[[Event], object]


class OutOfMemory(Exception):
  """The device or the machine had too little memory for this job alone."""


class DeadlinePassed(Exception):
  """The job was still in the queue when its deadline came."""


class Refused(Exception):
  """The job was not accepted: no event will come."""


class QueueFull(Refused):
  """More rows wait than Scheduler.max_queue; try again later."""


class Draining(Refused):
  """The scheduler ends; jobs that waited then get it as Failed.error, too."""


class EngineDead(Refused):
  """The engine's thread has died of a fault; jobs get it as Failed.error."""
