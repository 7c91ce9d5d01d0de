"""Measures loss and accuracy on held-out data every so many steps."""

import collections
import functools
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.runtime.hosts import failing_together
from mmicl_jax.training.log import dropped_counts
from mmicl_jax.training.settings import DataSettings, RunSettings
from mmicl_jax.training.sigterm import Preemption
from mmicl_jax.training.step import Params, apply_fn, to_device, token_sums

MEANS = ('loss', 'accuracy')


class Evaluation:
  """Evaluates parameters on the held-out batches of a run.

  It begins where their source stands, and sets the source back afterwards.
  """

  def __init__(
    self,
    config: MMICLConfig,
    mesh: Mesh,
    data: DataSettings,
    run: RunSettings,
    preemption: Preemption,
  ):
    assert data.held_out is not None and run.eval_every is not None
    apply = apply_fn(config, mesh)
    self._sums = jax.jit(functools.partial(token_sums, apply))
    self._mesh, self._preemption = mesh, preemption
    self._data = data.held_out

  def __call__(self, params: Params) -> dict[str, float]:
    """Means over all target tokens, and how many records were left out or cut.

    The names are 'eval/loss', 'eval/accuracy', 'eval/skipped' and so on. Raises
    Preempted if the machine is about to be taken away, and AllFailed in all
    processes if one cannot read its data or there are no target tokens.
    """
    total: collections.Counter = collections.Counter()
    start, before = self._data.get_state(), dropped_counts(self._data)
    try:
      for batch in self._batches():
        self._preemption.check()
        sums = jax.device_get(self._sums(params, to_device(batch, self._mesh)))
        total.update({name: float(x) for name, x in sums.items()})
      after = dropped_counts(self._data)
    finally:
      self._data.set_state(start)
    with failing_together():
      if not total['tokens']:
        raise UserError('the evaluation data holds no target tokens')
    means = {name: total[name] / total['tokens'] for name in MEANS}
    counts = {name: count - before[name] for name, count in after.items()}
    return {f'eval/{name}': x for name, x in (means | counts).items()}

  def _batches(self) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields all batches, each once every process has read its part of it."""
    source = iter(self._data)
    while True:
      with failing_together():
        item = next(source, None)
      if item is None:
        return
      yield item[0]
