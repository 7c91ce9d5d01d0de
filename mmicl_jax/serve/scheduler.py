"""The engine of a server: one thread owns the device, any thread submits jobs.

What is asked and what comes back is in jobs.py.
"""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.engine import check_size
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import Request
from mmicl_jax.serve.compiled import compiled_programs
from mmicl_jax.serve.jobs import (
  AnswerJob,
  Counts,
  Draining,
  EngineDead,
  Failed,
  Job,
  Listener,
  QueueFull,
)
from mmicl_jax.serve.lanes import Lane
from mmicl_jax.serve.pools import Pool
from mmicl_jax.serve.shapes import PoolShape, pool_shapes
from mmicl_jax.serve.tickets import Ticket

STALLED = 60  # seconds without a step while rows run
_LOOK_AGAIN = 0.05  # seconds, at the end


class Scheduler:
  """Answers jobs for several models, each as if it were alone.

  predictors: by the names that jobs call them; nothing else may use them, but
  for making prompts, once `start` was called. pools: shapes of prompts, by
  default those for the predictors' longest ones. max_new_tokens: the most of
  an answer. candidate_lengths: to which candidates are padded; the last is the
  most tokens of one. max_queue: rows that wait at most, by default four for
  each slot. searches: options of beam searches whose programs are compiled
  before the first job, too. prompt_bytes: each model's device memory for
  prompts that may come again. pool: the kind of slots. clock: seconds, as
  deadlines are given.
  """

  def __init__(
    self,
    predictors: Mapping[str, Predictor],
    *,
    pools: Sequence[PoolShape] | None = None,
    max_new_tokens: int = 64,
    candidate_lengths: tuple[int, ...] = (8, 64),
    max_queue: int | None = None,
    searches: Sequence[Options] = (),
    prompt_bytes: int = 1 << 28,
    pool: type[Pool] = Pool,
    clock: Callable[[], float] = time.monotonic,
  ):
    check_size('max_new_tokens', max_new_tokens)
    self._clock = clock
    self._lanes: dict[str, Lane] = {}
    slots = 0
    for name, predictor in predictors.items():
      own = pools or pool_shapes(predictor.max_input_length)
      slots += sum(shape.slots for shape in own)
      self._lanes[name] = Lane(
        predictor,
        own,
        max_new_tokens,
        candidate_lengths,
        prompt_bytes,
        self._progress,
        pool,
      )
    self.max_queue = 4 * slots if max_queue is None else max_queue
    self._searches = [AnswerJob(_EMPTY, options) for options in searches]
    # Guards what follows; the engine's thread waits for it when it is idle.
    self._changed = threading.Condition()
    self._new: list[Ticket] = []
    self._tickets: list[Ticket] = []  # all that may still get events
    self._warm = self._working = False
    self._draining = self._leaving = self._ended = False
    self._coming: Callable[[], bool] = _none_come
    self._death: BaseException | None = None
    self._progress_at = clock()
    self._thread = threading.Thread(
      target=self._run, name='mmicl-engine', daemon=True
    )

  def start(self) -> None:
    """Starts the thread, which compiles all programs before the first job."""
    compiled_programs()
    self._thread.start()

  def submit(
    self,
    model: str,
    job: Job,
    listener: Listener,
    deadline: float | int | None = None,
  ) -> Ticket:
    """Puts a job into the queue, from any thread; see jobs.py for its events.

    deadline: when the job fails unless it has left the queue. Raises UserError
    for a job that cannot be done, and a Refused for one that is not taken now.
    """
    if model not in self._lanes:
      raise UserError(
        f'{model!r} is no model here: give one of {", ".join(self._lanes)}.'
      )
    lane = self._lanes[model]
    lane.check(job)
    shape = lane.slots_for(job)
    ticket = Ticket(model, job, listener, deadline, self._wake, shape)
    with self._changed:
      if self._death is not None:
        raise EngineDead('the engine has died: start the server again')
      if self._ended or self._draining and not self._coming():
        raise Draining('the server is shutting down')
      before = _held_up(self._tickets)
      after = _held_up([*self._tickets, ticket])
      # Alone, a job may have as many rows as it likes.
      if before and after > max(before, self.max_queue):
        raise QueueFull(f'{before} rows wait already')
      self._tickets.append(ticket)
      self._new.append(ticket)
      self._changed.notify_all()
    return ticket

  def status(self) -> str:
    """'warming', 'ready', 'stalled', 'dead' or 'draining'.

    stalled: there is work, and the device has done nothing for a minute.
    """
    if self._death is not None:
      return 'dead'
    if self._draining:
      return 'draining'
    if not self._warm:
      return 'warming'
    late = self._clock() - self._progress_at > STALLED
    return 'stalled' if self._working and late else 'ready'

  def counts(self, model: str | None = None) -> Counts:
    """What there is to do and has been done, of a model or of all together.

    Programs are always those of all.
    """
    own = self._lanes if model is None else (model,)
    parts = [self._lanes[name].counts for name in own]
    total = {
      field.name: sum(getattr(part, field.name) for part in parts)
      for field in dataclasses.fields(Counts)
    }
    with self._changed:
      tickets = [t for t in self._tickets if t.model in own]
    total['running'] = sum(t.rows for t in tickets if t.started)
    total['waiting'] = sum(t.rows for t in tickets if not t.started)
    return Counts(**{**total, 'programs': compiled_programs()})

  def drain(
    self,
    timeout: float | int | None = None,
    coming: Callable[[], bool] | None = None,
  ) -> bool:
    """Fails the jobs that wait, and ends when the others have.

    coming: whether jobs may still come, for which requests that were accepted
    before are being read. Those that find no free slot fail. By default none
    are taken. Waits for the end; when the timeout (in seconds) has passed, all
    fail. Returns whether those that had begun ended by themselves. May be
    called again.
    """
    with self._changed:
      self._draining = True
      self._coming = coming or _none_come
      self._changed.notify_all()
    if self._thread.ident is None:  # it was never started
      self._ended = True
      return True
    self._thread.join(timeout)
    if not self._thread.is_alive():
      return self._death is None and not self._leaving
    with self._changed:
      self._leaving = True
      self._changed.notify_all()
    return False

  def _wake(self) -> None:
    with self._changed:
      self._changed.notify_all()

  def _progress(self) -> None:
    """The device has done something."""
    self._progress_at = self._clock()
    if self._leaving or self._draining and not self._warm:
      raise _Leave

  def _run(self) -> None:
    """The thread's whole life."""
    try:
      for lane in self._lanes.values():
        lane.warm_up(self._searches)
      self._warm = True
      while self._take():
        for lane in self._lanes.values():
          lane.turn(self._clock())
    except _Leave:
      self._fail_all(Draining('the server is shutting down'))
    except BaseException as error:
      logging.exception('the engine has died')
      self._death = error  # from here on nothing is added to the tickets
      self._fail_all(EngineDead(f'the engine has died: {error}'))
    finally:
      self._working = False

  def _take(self) -> bool:
    """Waits for work and gives it to the lanes; False when all is over."""
    lanes = self._lanes.values()
    with self._changed:
      while True:
        self._tickets = [t for t in self._tickets if t.alive]
        new, self._new = self._new, []
        late = self._late(new) if self._draining else []
        if new or late or any(lane.busy for lane in lanes):
          break
        if self._draining and (self._leaving or not self._coming()):
          self._ended = True
          return False
        self._working = False
        # Nobody says when the last request that might ask has gone.
        self._changed.wait(_LOOK_AGAIN if self._draining else None)
      if not self._working:
        self._progress_at, self._working = self._clock(), True
    for ticket in late:  # outside the lock: listeners take their own
      ticket.tell(Failed(Draining('the server is shutting down')))
    for ticket in new:
      self._lanes[ticket.model].add(ticket)
    return True

  def _late(self, new: Sequence[Ticket]) -> list[Ticket]:
    """Those that have had a turn and found no room; new: that had none yet."""
    unseen = set(new)
    return [t for t in self._tickets if not t.started and t not in unseen]

  def _fail_all(self, error: Exception) -> None:
    with self._changed:
      self._ended = True
      tickets, self._tickets = self._tickets, []
    for ticket in tickets:
      ticket.tell(Failed(error))


def _held_up(tickets: Iterable[Ticket]) -> int:
  """How many rows wait for others' ends: those with a free slot do not."""
  waiting, wanted = 0, collections.Counter()
  free: dict[tuple[str, PoolShape], int] = {}
  for ticket in tickets:
    if ticket.shape is None:
      waiting += 0 if ticket.started else ticket.rows
      continue
    place = ticket.model, ticket.shape
    free.setdefault(place, ticket.shape.slots)
    if ticket.started:
      free[place] -= ticket.rows
    else:
      wanted[place] += ticket.rows
  for place, rows in wanted.items():
    waiting += max(rows - max(free[place], 0), 0)
  return waiting


def _none_come() -> bool:
  return False


class _Leave(BaseException):
  """The thread ends before its jobs have."""


_EMPTY = Request(np.zeros(0, np.int32))  # a prompt of no job
