"""As much of Ray as mmicl_jax.inference.on_ray uses, in this process.

Batches go through pickle, and to the actors in turn, as Ray hands them out.
"""

import itertools
import pickle
import sys
import types

import numpy as np


class RayError(Exception):
  """What Ray raises when it gives up."""


def install(monkeypatch, cores=8.0, dies_after=None):
  """Puts it in Ray's place. dies_after: rows before Ray gives up."""
  ray, data = types.ModuleType('ray'), types.ModuleType('ray.data')
  ray.is_initialized = lambda: True
  ray.nodes = lambda: [{'Alive': True, 'Resources': {'CPU': cores}}]
  ray.exceptions = types.SimpleNamespace(RayError=RayError)
  ray.data = data
  options = types.SimpleNamespace(preserve_order=False)
  context = types.SimpleNamespace(execution_options=options)
  data.DataContext = types.SimpleNamespace(get_current=lambda: context)
  data.ActorPoolStrategy = lambda size: size
  data.from_items = lambda rows, override_num_blocks: _Rows(
    rows, options, dies_after
  )
  monkeypatch.setitem(sys.modules, 'ray', ray)
  monkeypatch.setitem(sys.modules, 'ray.data', data)


class _Rows:
  def __init__(self, rows, options, dies_after):
    self._rows, self._options, self._dies = rows, options, dies_after

  def map_batches(
    self, actor, fn_constructor_args, batch_size, compute, **needs
  ):
    assert batch_size == 1 and self._options.preserve_order and needs
    made = pickle.dumps(fn_constructor_args)
    self._actors = [actor(*pickle.loads(made)) for _ in range(compute)]
    return self

  def iter_rows(self):
    actors = itertools.cycle(self._actors)
    for i, row in enumerate(self._rows):
      if i == self._dies:
        raise RayError('a worker died\nits node is gone')
      batch = {name: np.array([value]) for name, value in row.items()}
      [answered] = next(actors)(batch)['answered']
      yield {'answered': answered}
