"""All that runs for one model: the engine's thread gives it a turn in a loop.

A turn does a little of everything, so that no job waits for another one's end:
it drops what nobody wants, takes jobs from the queue, scores a group of
candidates, reads a few images and prompts, and runs a few steps of the decoder
for all rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from mmicl_jax.decoding.room import check_room
from mmicl_jax.errors import UserError
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import bucket
from mmicl_jax.serve import beams, ranking
from mmicl_jax.serve.attending import Attending, check_answer
from mmicl_jax.serve.faults import for_each, job_error
from mmicl_jax.serve.jobs import (
  AnswerJob,
  AttentionJob,
  Counts,
  DeadlinePassed,
  Failed,
  Job,
  RankJob,
)
from mmicl_jax.serve.pools import Pool
from mmicl_jax.serve.prefills import Prefills, Preparing
from mmicl_jax.serve.shapes import PoolShape, shape_for
from mmicl_jax.serve.tickets import Ticket

READS = 2  # programs that encode prompts in a turn, while rows wait for a step
RANKED = 2  # jobs without new tokens that are out of the queue at a time


class Lane:
  """One model's jobs. Only the engine's thread may call it, except `check`
  and `slots_for`.

  shapes: of prompts. room: the most new tokens of an answer.
  candidate_lengths: to which candidates are padded. prompt_bytes: device
  memory for prompts that may come again. progress: called whenever the device
  has done something. pool: the kind of slots.
  """

  def __init__(
    self,
    predictor: Predictor,
    shapes: Sequence[PoolShape],
    room: int,
    candidate_lengths: tuple[int, ...],
    prompt_bytes: int,
    progress: Callable[[], None],
    pool: type[Pool] = Pool,
  ):
    self._predictor, self._engine = predictor, predictor.engine
    self._model, self._params = self._engine.model, self._engine.params
    self._shapes, self._most = tuple(shapes), room
    self._room = bucket(room, 8)
    self._candidate_lengths = candidate_lengths
    self._progress = progress
    self._prefills = Prefills(self._engine.reader, prompt_bytes)
    self._pools = {
      shape: pool(self._model, self._params, shape, self._room)
      for shape in self._shapes
    }
    self._waiting: list[Ticket] = []
    self._preparing: list[Preparing] = []
    self._scoring: list[ranking.Scoring | Attending] = []
    self._batches: list[beams.BeamBatch] = []

  def check(self, job: Job) -> None:
    """Raises UserError for a job that no turn could do."""
    shape_for(self._shapes, len(job.prompt.tokens))
    if isinstance(job, RankJob):
      longest = max(map(len, job.candidates))
      ranking.padded_length(self._candidate_lengths, longest)
      return
    if isinstance(job, AttentionJob):
      check_answer(job, self._room)
      return
    if job.options.max_new_tokens > self._most:
      raise UserError(
        f'max_new_tokens is {job.options.max_new_tokens}: this server gives at '
        f'most {self._most}.'
      )
    check_room(job.options, self._predictor.config, 1)

  def slots_for(self, job: Job) -> PoolShape | None:
    """The shape of the slots that a job needs; None if it needs none."""
    if isinstance(job, AnswerJob) and not job.searches:
      return shape_for(self._shapes, len(job.prompt.tokens))
    return None

  def add(self, ticket: Ticket) -> None:
    """Puts a job into the queue."""
    self._waiting.append(ticket)

  @property
  def busy(self) -> bool:
    """Whether there is anything to do."""
    return bool(self._waiting or self._preparing or self._running)

  @property
  def counts(self) -> Counts:
    """What this model needs; its rows and `programs` are not known here."""
    prefills = self._prefills
    used = sum(pool.used for pool in self._pools.values())
    return Counts(
      slots=sum(shape.slots for shape in self._shapes),
      slots_used=used,
      prompts_asked=prefills.asked,
      prompts_known=prefills.known,
      images_asked=prefills.images_asked,
      images_known=prefills.images_known,
      steps=sum(pool.steps for pool in self._pools.values()),
      step_rows=sum(pool.step_rows for pool in self._pools.values()),
    )

  def turn(self, now: float) -> None:
    """Does a little of everything; now: as deadlines are counted."""
    with self._engine.reader.on_devices():
      self._drop(now)
      self._start()
      self._score()
      self._read()
      self._step()

  def warm_up(self, plans: Sequence[AnswerJob]) -> None:
    """Compiles what jobs need; plans: searches with options that may come."""
    with self._engine.reader.on_devices():
      self._prefills.warm_up(self._predictor.longest_instruction)
      for shape, pool in self._pools.items():
        for rows in shape.counts:
          self._progress()
          memories = self._prefills.encode([], rows, shape, {})
          for job in plans:
            self._progress()
            plan = self._plan(job, shape)
            beams.warm_up_beams(self._model, self._params, plan, memories)
        self._progress()
        pool.warm_up(memories[0])
        ranking.warm_up_scores(
          self._model, self._params, memories[0], self._candidate_lengths
        )
      self._progress()

  @property
  def _running(self) -> bool:
    """Whether a job that has left the queue waits for the decoder."""
    pools = self._pools.values()
    rows = any(pool.busy for pool in pools)
    return bool(rows or self._scoring or self._batches)

  def _drop(self, now: float) -> None:
    """Forgets what nobody wants; fails jobs whose deadline came too early."""
    for ticket in self._waiting:
      if ticket.deadline is not None and now > ticket.deadline:
        ticket.tell(Failed(DeadlinePassed('the request waited too long')))
    self._waiting = [t for t in self._waiting if t.alive]
    self._preparing = [p for p in self._preparing if p.ticket.alive]
    self._scoring = [s for s in self._scoring if s.ticket.alive]
    for pool in self._pools.values():
      pool.drop()
    for batch in self._batches:
      batch.drop()
    self._batches = [batch for batch in self._batches if batch.rows]

  def _start(self) -> None:
    """Takes jobs from the queue for which there is room, the oldest first."""
    free = {shape: pool.free for shape, pool in self._pools.items()}
    ranked, plan, searches = len(self._scoring), None, 0
    searching = bool(self._batches)
    for own in self._preparing:
      job = own.ticket.job
      if not isinstance(job, AnswerJob):
        ranked += 1
      elif job.searches:
        searching = True
      else:
        free[own.shape] -= job.choices
    left = []
    for ticket in self._waiting:
      job = ticket.job
      shape = shape_for(self._shapes, len(job.prompt.tokens))
      if not isinstance(job, AnswerJob):
        taken = ranked < RANKED
        ranked += taken
      elif job.searches:
        own = self._plan(job, shape)
        if plan is None and not searching:
          plan, searches = own, shape.together
        taken = own == plan and searches > 0
        searches -= taken
      else:
        taken = free[shape] > 0
        free[shape] -= taken * job.choices
      if taken:
        found = self._prefills.find(job.prompt)
        ticket.start(found is not None)
        self._preparing.append(Preparing(ticket, shape, found))
      else:
        left.append(ticket)
    self._waiting = left

  def _score(self) -> None:
    """Does a step of the oldest job that asks for no new tokens."""
    if not self._scoring:
      return

    def score(jobs: Sequence[ranking.Scoring | Attending]) -> None:
      if jobs[0].step():
        self._scoring.remove(jobs[0])

    for_each(self._scoring[:1], score)
    self._progress()

  def _read(self) -> None:
    """Reads images and prompts of jobs that were taken from the queue."""
    unread = [p for p in self._preparing if p.memory is None]
    if any(p.unseen for p in unread):
      for_each(unread, self._prefills.see)
      self._progress()
    reads = 0
    while together := self._readable():
      if reads >= READS and self._running:
        break
      for_each(together, self._prefills.read)
      reads += 1
      self._progress()
      self._preparing = [p for p in self._preparing if p.ticket.alive]
      self._place()
    self._place()

  def _readable(self) -> list[Preparing]:
    """Jobs of one shape, and one kind, whose prompts can be read together."""
    ready = [
      p
      for p in self._preparing
      if p.memory is None and p.ticket.alive and not p.unseen
    ]
    if not ready:
      return []
    first = ready[0]
    same = [
      p
      for p in ready
      if p.shape == first.shape and _searches(p) == _searches(first)
    ]
    return list(next(iter(first.shape.parts(same))))

  def _place(self) -> None:
    """Gives jobs whose prompts are read to what decodes them."""
    searches = [p for p in self._preparing if _searches(p)]
    if searches and all(p.memory for p in searches):
      self._batches += self._batches_of(searches)
    else:  # they wait for each other, to run in one batch
      searches = []
    left = []
    for own in self._preparing:
      if own.memory is None or _searches(own):
        left.append(own)
      elif isinstance(own.ticket.job, RankJob):
        self._scoring.append(
          ranking.Scoring(
            self._model,
            self._params,
            own.ticket,
            own.memory,
            self._candidate_lengths,
          )
        )
      elif isinstance(own.ticket.job, AttentionJob):
        self._scoring.append(
          Attending(self._engine, own.ticket, own.memory, self._room)
        )
      else:
        self._pools[own.shape].add(own)
    self._preparing = [own for own in left if own not in searches]

  def _batches_of(self, searches: Sequence[Preparing]) -> list[beams.BeamBatch]:
    """Batches of searches with one plan: as many prompts as go together."""
    same: dict[bytes, list[Preparing]] = {}
    for own in searches:
      same.setdefault(own.prompt.key, []).append(own)
    shape = searches[0].shape
    plan = self._plan(searches[0].ticket.job, shape)
    batches = []
    for part in shape.parts(list(same.values())):
      memories = [jobs[0].memory for jobs in part if jobs[0].memory]
      rows = 1 if len(part) == 1 else shape.together
      memories += memories[:1] * (
        rows - len(part)
      )  # rows that nobody asked for
      tickets = [[own.ticket for own in jobs] for jobs in part]
      batches.append(
        beams.BeamBatch(
          self._model,
          self._params,
          plan,
          tuple(memories),
          dict(enumerate(tickets)),
        )
      )
    return batches

  def _plan(self, job: Job, shape: PoolShape) -> beams.SearchPlan:
    assert isinstance(job, AnswerJob)
    return beams.plan_of(job, shape.length, self._room)

  def _step(self) -> None:
    """Runs a few steps of all slots, and of the oldest batch of searches.

    All are started before the first one's tokens are waited for.
    """
    started: list[tuple[Any, Any]] = []
    for own in (*self._pools.values(), *self._batches[:1]):
      try:
        new = own.step()
      except Exception as error:
        self._fail(own, error)
      else:
        if new is not None:
          started.append((own, new))
    for own, new in started:
      try:
        new = jax.device_get(new)
      except Exception as error:
        self._fail(own, error)
        continue
      self._progress()
      own.hand_out(new)
    self._batches = [batch for batch in self._batches if batch.rows]

  def _fail(self, own: Pool | beams.BeamBatch, error: Exception) -> None:
    told = job_error(error)
    if isinstance(own, Pool):
      own.fail(told)
    else:
      self._batches.remove(own)
      self._batches = [*own.fail(told), *self._batches]


def _searches(own: Preparing) -> bool:
  job = own.ticket.job
  return isinstance(job, AnswerJob) and job.searches
