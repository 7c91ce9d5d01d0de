"""Slots for prompts of one shape: greedy answers and samples come and go."""

import collections
import dataclasses
from typing import Any

import jax
import numpy as np

from mmicl_jax.decoding import slots as decoding
from mmicl_jax.decoding.loop import Memory
from mmicl_jax.decoding.options import Options
from mmicl_jax.decoding.row_options import row_options
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.serve.jobs import AnswerJob, Failed, Finished, NewTokens
from mmicl_jax.serve.prefills import Prefilled, Preparing
from mmicl_jax.serve.shapes import PoolShape
from mmicl_jax.serve.tickets import Ticket
from mmicl_jax.types import EOS


@dataclasses.dataclass(eq=False)
class Choice:
  """One answer of a job. total: the sum of its tokens' log-probabilities."""

  ticket: Ticket
  number: int
  prefilled: Prefilled | None
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
      self._waiting.append(Choice(job.ticket, number, job.prefilled))

  def drop(self) -> None:
    """Frees the slots of choices that nobody wants any more.

    Their rows stay as they are until others take them, and are not run.
    """
    self.rows = [row if row and row.wanted else None for row in self.rows]
    self._waiting = collections.deque(c for c in self._waiting if c.wanted)

  def step(self) -> decoding.SlotTokens | None:
    """Starts the next few steps of all rows; the result may not be there yet.

    Waiting choices take free slots first. As few slots run as hold all rows.
    """
    self._fill()
    taken = [slot for slot, row in enumerate(self.rows) if row is not None]
    if not taken:
      return None
    count = next(n for n in self.shape.steps if n > taken[-1])
    active = np.zeros(count, bool)
    active[taken] = True
    return self._advance(active)

  def hand_out(self, new: decoding.SlotTokens) -> None:
    """Tells the new tokens, arrays on the host; frees the rows that ended."""
    for slot in range(len(new.counts)):
      choice = self.rows[slot]
      if choice is not None:
        self._tell(choice, jax.tree.map(lambda x, s=slot: x[s], new))
        if new.done[slot]:
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
    self._insert_row(memory, 0, 0, options)
    for count in self.shape.steps:
      jax.block_until_ready(self._advance(np.zeros(count, bool)))

  def _fill(self) -> None:
    """Puts waiting choices into free slots, the lowest first."""
    for slot, row in enumerate(self.rows):
      if row is None and self._waiting:
        self.rows[slot] = choice = self._waiting.popleft()
        self._insert(choice, slot)

  def _insert(self, choice: Choice, slot: int) -> None:
    job = choice.ticket.job
    assert isinstance(job, AnswerJob) and choice.prefilled is not None
    options = row_options(
      job.options, job.rows[choice.number], job.top_logprobs
    )
    self._insert_row(*choice.prefilled, slot, options)
    choice.prefilled = None  # the slot has a copy

  def _insert_row(self, memory: Memory, row: int, slot: int, options) -> None:
    if self._state is None:
      self._state = _empty(
        self._model, self._params, memory, self.shape.slots, self._room
      )
    self._state = _insert(
      self._state, memory, np.int32(row), np.int32(slot), options
    )

  def _advance(self, active: np.ndarray) -> decoding.SlotTokens:
    self._state, new = _advance(self._model, self._params, self._state, active)
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


_empty = jax.jit(decoding.empty_slots, static_argnums=(0, 3, 4))
_insert = jax.jit(decoding.insert, donate_argnums=0)
_advance = jax.jit(
  decoding.advance_slots, static_argnums=0, donate_argnames='slots'
)
