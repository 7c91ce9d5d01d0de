"""What stands behind the same HTTP layer: this engine, and what it replaces."""

import abc
import collections
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmicl_jax.bench.serve_load import ServeCase, ask_all
from mmicl_jax.bench.workers import load_theirs, read_images
from mmicl_jax.inference.load import load
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.models.mmicl import MEAN, STD
from mmicl_jax.runtime.jit_cache import keep_compiled
from mmicl_jax.serve.jobs import (
  AnswerJob,
  Counts,
  Finished,
  Listener,
  NewTokens,
  Started,
)
from mmicl_jax.serve.pools import Pool
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.tickets import Ticket

LONGEST = 256  # tokens of a prompt
MOST = 64  # tokens of an answer


class Gangs(Pool):
  """Slots that are filled only when all are free: batches, padded in time."""

  def _fill(self) -> None:
    if not self.used:
      super()._fill()


class Together(abc.ABC):
  """A thread that answers up to `most` waiting jobs at a time, to the end.

  It stands in for a Scheduler; jobs are greedy AnswerJobs.
  """

  max_queue = 1 << 16

  def __init__(self, most: int):
    self._most = most
    self._waiting: collections.deque[Ticket] = collections.deque()
    self._changed = threading.Condition()
    threading.Thread(target=self._run, daemon=True).start()

  def submit(
    self,
    model: str,
    job: AnswerJob,
    listener: Listener,
    deadline: float | None = None,
  ) -> Ticket:
    ticket = Ticket(model, job, listener, deadline, lambda: None)
    with self._changed:
      self._waiting.append(ticket)
      self._changed.notify()
    return ticket

  def status(self) -> str:
    return 'ready'

  def counts(self, model: str | None = None) -> Counts:
    del model
    return Counts(slots=self._most)

  def drain(
    self,
    timeout: float | None = None,
    coming: Callable[[], bool] | None = None,
  ) -> bool:
    del timeout, coming
    return True

  @abc.abstractmethod
  def answer(self, jobs: Sequence[AnswerJob]) -> list[list[int]]:
    """The tokens of each job's answer."""

  def _run(self) -> None:
    while True:
      with self._changed:
        while not self._waiting:
          self._changed.wait()
        count = min(len(self._waiting), self._most)
        tickets = [self._waiting.popleft() for _ in range(count)]
      for ticket in tickets:
        ticket.tell(Started(False))
      jobs: Any = [ticket.job for ticket in tickets]
      found = self.answer(jobs)
      for ticket, tokens in zip(tickets, found, strict=True):
        ticket.tell(NewTokens(0, tuple(tokens), (0.0,) * len(tokens)))
        ticket.tell(Finished(0, 0.0, 'length'))


class OneByOne(Together):
  """Calls of a Predictor, one after the other."""

  def __init__(self, predictor: Predictor):
    self._predictor = predictor
    super().__init__(1)

  def answer(self, jobs: Sequence[AnswerJob]) -> list[list[int]]:
    [job] = jobs
    [answer] = self._predictor.answers([job.prompt], job.options)
    return [list(answer.tokens)]


class TorchBatches(Together):
  """transformers' generate for up to eight prompts at a time."""

  def __init__(self, directory: str, dtype: str, threads: int):
    import torch

    self._torch = torch
    self._model = load_theirs(directory, dtype, threads)
    super().__init__(8)

  def answer(self, jobs: Sequence[AnswerJob]) -> list[list[int]]:
    torch = self._torch
    model, most = self._model, max(j.options.max_new_tokens for j in jobs)
    longest = max(len(job.prompt.tokens) for job in jobs)
    ids = np.zeros((len(jobs), longest), np.int64)
    for row, job in zip(ids, jobs, strict=True):
      row[: len(job.prompt.tokens)] = job.prompt.tokens
    images = np.stack([image for job in jobs for image in job.prompt.images])
    x = ((images / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
      pixels = torch.tensor(x).to(model.device, model.dtype)
      visual = model.language_projection(read_images(model, pixels))
      tokens = torch.tensor(ids).to(model.device)
      embeds = model.get_input_embeddings()(tokens)
      mask = (tokens == model.config.image_token_index)[..., None]
      found = model.language_model.generate(
        inputs_embeds=embeds.masked_scatter(mask, visual.to(embeds.dtype)),
        attention_mask=(tokens != 0).long(),
        max_new_tokens=most,
        min_new_tokens=most,
        do_sample=False,
      )
    rows = found[:, 1:].cpu().numpy()
    return [
      row[: job.options.max_new_tokens].tolist()
      for row, job in zip(rows, jobs, strict=True)
    ]


class _Served(abc.ABC):
  """A scheduler behind the HTTP layer, in a process of its own."""

  def __init__(self, directory: str, dtype: str, threads: int):
    from mmicl_jax.serve.run import service_server
    from mmicl_jax.serve.service import ServedModel, Service
    from mmicl_jax.serve.settings import Settings

    keep_compiled(f'{directory}/compiled')
    predictor = load(directory, dtype=dtype, max_input_length=LONGEST)
    self._size = predictor.config.vit.image_size
    scheduler: Any = self.scheduler(predictor, directory, dtype, threads)
    service = Service(Settings(port=0, max_tokens=MOST))
    model = ServedModel('bench', directory, predictor, 0)
    service.open({'bench': model}, scheduler)
    self.port = _listen(service_server(service))

  @abc.abstractmethod
  def scheduler(
    self, predictor: Predictor, directory: str, dtype: str, threads: int
  ) -> Any:
    """What stands behind the HTTP layer."""

  def run(self, case: ServeCase) -> tuple[float, list[float], list[str]]:
    """All seconds, those of each request, and the answers."""
    return ask_all(self.port, case, self._size)


def _listen(server: Any) -> int:
  """Runs a uvicorn server in a thread; returns its port."""
  import asyncio
  import socket

  listening = socket.create_server(('127.0.0.1', 0))
  threading.Thread(
    target=lambda: asyncio.run(server.serve([listening])), daemon=True
  ).start()
  return listening.getsockname()[1]


class OurSlots(_Served):
  """This package's engine."""

  pool: type[Pool] = Pool

  def scheduler(
    self, predictor: Predictor, directory: str, dtype: str, threads: int
  ) -> Any:
    del dtype, threads
    found = Scheduler(
      {directory: predictor},
      max_new_tokens=MOST,
      candidate_lengths=(8,),
      max_queue=1 << 16,
      pool=self.pool,
    )
    found.start()
    while found.status() == 'warming':
      threading.Event().wait(0.1)
    return found


class OurGangs(OurSlots):
  """The same, but a batch ends before the next one begins."""

  pool = Gangs


class OurCalls(_Served):
  """A Predictor that answers one request after the other."""

  def scheduler(
    self, predictor: Predictor, directory: str, dtype: str, threads: int
  ) -> Any:
    del directory, dtype, threads
    return OneByOne(predictor)


class TheirBatches(_Served):
  """transformers, in dynamic batches of eight."""

  def scheduler(
    self, predictor: Predictor, directory: str, dtype: str, threads: int
  ) -> Any:
    del predictor
    return TorchBatches(directory, dtype, threads)
