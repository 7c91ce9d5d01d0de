"""Where the tokens of a given answer look: a program of its own for who asks.

It is compiled when the first client asks for prompts of its length.
"""

import numpy as np

from mmicl_jax.decoding.loop import Memory
from mmicl_jax.errors import UserError
from mmicl_jax.inference.attention import (
  Attended,
  over_patches,
  read_patches,
  token_attention,
)
from mmicl_jax.inference.engine import Engine
from mmicl_jax.serve.jobs import AttentionJob, Looked
from mmicl_jax.serve.tickets import Ticket


class Attending:
  """An AttentionJob whose prompt is read; room: for the answer's tokens."""

  def __init__(self, engine: Engine, ticket: Ticket, memory: Memory, room: int):
    self.ticket = ticket
    self._engine, self._memory, self._room = engine, memory, room

  def step(self) -> bool:
    """Does all of it, and tells it; always True: it was the last step."""
    job, engine = self.ticket.job, self._engine
    assert isinstance(job, AttentionJob)
    count = len(job.answer)
    targets = np.zeros((1, self._room), np.int32)
    targets[0, :count] = job.answer
    patches = read_patches(engine, [job.prompt])
    found = token_attention(engine.model, engine.params, self._memory, targets)
    shares = np.asarray(found)[0, :count, : len(job.prompt.tokens)]
    own = over_patches(engine, job.prompt, shares, patches)
    self.ticket.tell(Looked(tuple(map(Attended, *own))))
    return True


def check_answer(job: AttentionJob, most: int) -> None:
  """Raises UserError if the answer has more tokens than there is room for."""
  if len(job.answer) > most:
    raise UserError(
      f'the answer has {len(job.answer)} tokens, but the server takes {most}: '
      'give a shorter one.'
    )
