"""Loss and accuracy on held-out data, now and then during a run."""

import collections
import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from mmicl_jax.errors import UserError
from mmicl_jax.training.state import to_device
from mmicl_jax.training.step import Apply, Params, token_sums
from mmicl_jax.types import BatchSource


class Evaluation:
  """Of all batches from the data's state on, every so many steps.

  stopped: asked before each batch; True cuts the evaluation short.
  """

  def __init__(
    self,
    apply: Apply,
    mesh: Mesh,
    data: BatchSource,
    every: int,
    stopped: Callable[[], bool],
  ):
    self._sums = jax.jit(functools.partial(token_sums, apply))
    self._mesh, self._data = mesh, data
    self._every, self._stopped = every, stopped

  def due(self, step: int) -> bool:
    return step % self._every == 0

  def __call__(self, params: Params) -> dict[str, float] | None:
    """Means over the target tokens; None if it was cut short.

    Leaves the data where it was. Raises UserError without target tokens.
    """
    total: collections.Counter = collections.Counter()
    start = self._data.get_state()
    for batch, _ in self._data:
      if self._stopped():
        self._data.set_state(start)
        return None
      sums = jax.device_get(self._sums(params, to_device(batch, self._mesh)))
      total.update({name: float(x) for name, x in sums.items()})
    self._data.set_state(start)
    if not total['tokens']:
      raise UserError('the evaluation data holds no target tokens')
    return {
      f'eval/{name}': total[name] / total['tokens']
      for name in ('loss', 'accuracy')
    }
