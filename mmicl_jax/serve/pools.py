"""Slots for prompts of one shape: greedy answers and samples come and go."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from mmicl_jax.decoding import slots as decoding
from mmicl_jax.decoding.loop import Memory
from mmicl_jax.decoding.options import Options
from mmicl_jax.decoding.row_options import RowOptions, row_options
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.models.partitioning import split_by_heads
from mmicl_jax.serve.jobs import AnswerJob, Failed, Finished, NewTokens
from mmicl_jax.serve.prefills import Preparing
from mmicl_jax.serve.shapes import PoolShape
from mmicl_jax.serve.tickets import Ticket
from mmicl_jax.types import EOS


@dataclasses.dataclass(eq=False)
class Choice:
  """One answer of a job. total: the sum of its tokens' log-probabilities."""

  ticket: Ticket
  number: int
  memory: Memory | None
  count: int = 0
  total: float = 0.0

  @property
  def wanted(self) -> bool:
    return self.ticket.wants(self.number)


class Pool:
  """The slots of one shape, and the choices that wait for one of them.

  room: the most new tokens of a choice. steps, step_rows: how often the decoder
  ran, and the tokens that it gave.
  """

  def __init__(self, model: MMICL, params: Any, shape: PoolShape, room: int):
    self.shape = shape
    self._model, self._params, self._room = model, params, room
    self._state: decoding.Slots | None = None
    self.rows: list[Choice | None] = [None] * shape.slots
    self._waiting: collections.deque[Choice] = collections.deque()
    self._running: list[int] = []  # the slots of the step that was started
    self.steps = self.step_rows = 0

  @property
  def used(self) -> int:
    return sum(row is not None for row in self.rows)

  @property
  def free(self) -> int:
    """Slots that nothing waits for; below 0 if there are too few."""
    return self.shape.slots - self.used - len(self._waiting)

  @property
  def busy(self) -> bool:
    return bool(self.used or self._waiting)

  def add(self, job: Preparing) -> None:
    """Lets all choices of a job whose prompt is read wait for slots."""
    asked = job.ticket.job
    assert isinstance(asked, AnswerJob)
    for number in range(asked.choices):
      self._waiting.append(Choice(job.ticket, number, job.memory))

  def drop(self) -> None:
    """Frees the slots of choices that nobody wants any more.

    Their rows stay as they are until others take them, and are not run.
    """
    self.rows = [row if row and row.wanted else None for row in self.rows]
    self._waiting = collections.deque(c for c in self._waiting if c.wanted)

  def step(self) -> decoding.SlotTokens | None:
    """Starts the next few steps of all rows; the result may not be there yet.

    Waiting choices take free slots first. Then the smallest program runs that
    has room for all rows, with slots where there is none in the rest.
    """
    self._fill()
    taken = [slot for slot, row in enumerate(self.rows) if row is not None]
    if not taken:
      return None
    count = self.shape.step(len(taken))
    if count == self.shape.slots:
      self._running = list(range(count))
    else:
      empty = (slot for slot, row in enumerate(self.rows) if row is None)
      self._running = [*taken, *empty][:count]
    return self._advance(self._running)

  def hand_out(self, new: decoding.SlotTokens) -> None:
    """Tells the new tokens, arrays on the host; frees the rows that ended."""
    for i, slot in enumerate(self._running):
      choice = self.rows[slot]
      if choice is not None:
        self._tell(choice, jax.tree.map(lambda x, i=i: x[i], new))
        if new.done[i]:
          self.rows[slot] = None
    self.steps += int(new.counts.max())
    self.step_rows += int(new.counts.sum())

  def fail(self, error: Exception) -> None:
    """Ends all rows, and makes their arrays anew for the next ones."""
    self._state = None
    for choice in self.rows:
      if choice is not None:
        choice.ticket.tell(Failed(error))
    self.drop()

  def warm_up(self, memory: Memory) -> None:
    """Compiles what prompts that were read as `memory` need."""
    options = row_options(Options(), 0)
    self._insert_row(memory, 0, options)
    for count in self.shape.steps:
      jax.block_until_ready(self._advance(list(range(count))))

  def _fill(self) -> None:
    """Puts waiting choices into free slots, the lowest first."""
    for slot, row in enumerate(self.rows):
      if row is None and self._waiting:
        self.rows[slot] = choice = self._waiting.popleft()
        self._insert(choice, slot)

  def _insert(self, choice: Choice, slot: int) -> None:
    job = choice.ticket.job
    assert isinstance(job, AnswerJob) and choice.memory is not None
    options = row_options(
      job.options, job.rows[choice.number], job.top_logprobs
    )
    self._insert_row(choice.memory, slot, options)
    choice.memory = None  # the slot has a copy

  def _insert_row(self, memory: Memory, slot: int, options) -> None:
    if self._state is None:
      self._state = _empty(
        self._model, self._params, memory, self.shape.slots, self._room
      )
    self._state = _insert(
      self._state, memory, np.int32(0), np.int32(slot), options
    )

  def _advance(self, slots: Sequence[int]) -> decoding.SlotTokens:
    """Runs slots, of which those that nobody has keep their state."""
    active = np.array([self.rows[slot] is not None for slot in slots])
    self._state, new = _advance(
      self._model, self._params, self._state, np.array(slots, np.int32), active
    )
    return new

  def _tell(self, choice: Choice, new: decoding.SlotTokens) -> None:
    """new: of this row alone."""
    job, count = choice.ticket.job, int(new.counts)
    assert isinstance(job, AnswerJob)
    log_probs = new.log_probs[:count].tolist()
    top = ()
    if most := job.top_logprobs:
      top = tuple(
        tuple(zip(ids[:most].tolist(), values[:most].tolist(), strict=True))
        for ids, values in zip(
          new.top_tokens[:count], new.top_log_probs[:count], strict=True
        )
      )
    tokens = tuple(new.tokens[:count].tolist())
    if count:
      event = NewTokens(choice.number, tokens, tuple(log_probs), top)
      choice.ticket.tell(event)
    choice.count += count
    choice.total += sum(log_probs)
    if new.done:
      score = choice.total / choice.count**job.options.length_penalty
      reason = 'stop' if tokens[-1] == EOS else 'length'
      choice.ticket.tell(Finished(choice.number, score, reason))


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _empty(
  model: MMICL, params: Any, prompt: Memory, rows: int, length: int
) -> decoding.Slots:
  return split_by_heads(
    decoding.empty_slots(model, params, prompt, rows, length)
  )


@functools.partial(jax.jit, donate_argnums=0)
def _insert(
  slots: decoding.Slots,
  prompt: Memory,
  row: Int[jax.Array, ''],
  slot: Int[jax.Array, ''],
  options: RowOptions,
) -> decoding.Slots:
  return split_by_heads(decoding.insert(slots, prompt, row, slot, options))


@functools.partial(jax.jit, static_argnums=0, donate_argnames='slots')
def _advance(
  model: MMICL,
  params: Any,
  slots: decoding.Slots,
  rows: Int[jax.Array, 'A'],
  active: Bool[jax.Array, 'A'],
) -> tuple[decoding.Slots, decoding.SlotTokens]:
  changed, new = decoding.advance_slots(model, params, slots, rows, active)
  return split_by_heads(changed), new
