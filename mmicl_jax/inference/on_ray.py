"""Windows of records answered by the actors of a Ray cluster.

The run is Ray Data's: its rows name the records that are answered together, its
actors hold a model each, and what they say comes back in order, to the one
process that writes the output. So the output, and how it is continued, is that
of a run on one machine. Workers read records and images where this process
would: all must see the same disk, or the same bucket.
"""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmicl_jax.data import jsonl
from mmicl_jax.errors import UserError
from mmicl_jax.inference.answer_file import AnsweredWindow, AnswerFile
from mmicl_jax.inference.input_lines import input_line
from mmicl_jax.inference.kept_answers import Kept
from mmicl_jax.runtime.mirror import local_file

if TYPE_CHECKING:
  from mmicl_jax.inference.predictor import Predictor

Load = Callable[[], 'Predictor']
_BLOCKS = 1000  # of Ray Data, at most: each comes back as a whole


class OnRay:
  """Answers the records of a job; for AnswerFile.run_elsewhere.

  job: its `block` says how many records are answered together. load: makes a
  Predictor in an actor. actors: how many; None: as many as the cluster has room
  for. needs: what each takes, as {'GPU': 1}; empty: a GPU, or all TPU chips of
  a host, or a CPU. Raises UserError without Ray.
  """

  def __init__(
    self,
    job: AnswerFile,
    load: Load,
    actors: int | None = None,
    needs: Mapping[str, float] | None = None,
  ):
    try:
      import ray
      import ray.data
    except ImportError as error:
      raise UserError(
        "--engine ray needs Ray: pip install 'mmicl_jax[ray]'"
      ) from error
    self._ray: Any = ray
    self._job, self._load = job, load
    logging.getLogger('ray.data').setLevel(logging.ERROR)
    if not ray.is_initialized():
      # RAY_ADDRESS is Ray's own variable; 'auto' is this machine's cluster.
      here = {} if os.environ.get('RAY_ADDRESS') else _here(actors)
      ray.init(log_to_driver=False, logging_level='ERROR', **here)
    nodes = [n['Resources'] for n in ray.nodes() if n['Alive']]
    self._actors, self._needs = room(nodes, actors, needs or {})

  def __call__(self, kept: Kept) -> Iterator[AnsweredWindow]:
    """Yields what comes after the part that is kept, in order.

    Raises UserError for what an actor raises as one, and if actors end.
    """
    assert self._job.block is not None
    windows = self._job.windows(kept.lines, self._job.block)
    rows = [
      {'there': there, 'lines': json.dumps([(x.line, x.start) for x in items])}
      for there, items in windows
    ]
    if not rows:
      return
    model = ''
    try:
      for row in self._dataset(rows).iter_rows():
        value = json.loads(row['answered'])
        if 'fault' in value:
          raise UserError(value['fault'])
        answered = AnsweredWindow(**value)
        model = model or answered.model
        if answered.model != model:
          raise UserError(
            f'two actors loaded different models ({model}, {answered.model}): '
            'is --checkpoint the same on all machines?'
          )
        yield answered
    except self._ray.exceptions.RayError as error:
      raise UserError(
        f'Ray gave up ({str(error).strip().splitlines()[-1]}): run the same '
        'command again, which goes on'
      ) from error

  def _dataset(self, rows: Sequence[Mapping[str, Any]]) -> Any:
    data = self._ray.data
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    needs = dict(self._needs)
    settings = {
      'num_cpus': needs.pop('CPU', None),
      'num_gpus': needs.pop('GPU', None),
      **({'resources': needs} if needs else {}),
    }
    blocks = min(len(rows), _BLOCKS)
    return data.from_items(rows, override_num_blocks=blocks).map_batches(
      _Actor,
      fn_constructor_args=(self._job, self._load, os.getcwd()),
      batch_size=1,
      compute=data.ActorPoolStrategy(size=min(self._actors, len(rows))),
      **{k: v for k, v in settings.items() if v is not None},
    )


class _Actor:
  """Holds a model in a process of its own, and answers windows.

  A UserError is handed over as a row: one that is raised would end the job with
  a traceback, or be tried again for ever.
  """

  def __init__(self, job: AnswerFile, load: Load, folder: str):
    with contextlib.suppress(OSError):  # if all paths are absolute, no matter
      os.chdir(folder)
    try:
      # Of an input on a bucket this machine needs a copy of its own.
      self._source = local_file(job.shown)
      self._job = dataclasses.replace(job, source=self._source)
      self._predictor = load()
    except UserError as error:
      self._fault = str(error)
    else:
      self._fault = ''

  def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
    said = [
      json.dumps(self._answered(int(there), json.loads(lines)))
      for there, lines in zip(batch['there'], batch['lines'], strict=True)
    ]
    return {'answered': said}

  def _answered(
    self, there: int, lines: Sequence[Sequence[int]]
  ) -> dict[str, Any]:
    if self._fault:
      return {'fault': self._fault}
    job = self._job
    try:
      items = [
        input_line(
          jsonl.read_line(self._source, start),
          number,
          start,
          job.shown,
          job.root,
        )
        for number, start in lines
      ]
      found = job.answered_alone(self._predictor, there, items)
    except UserError as error:
      return {'fault': str(error)}
    return dataclasses.asdict(found)


def parse_needs(text: str | None) -> dict[str, float]:
  """'TPU=4,CPU=8' -> {'TPU': 4.0, 'CPU': 8.0}; raises UserError."""
  found: dict[str, float] = {}
  for part in text.split(',') if text else ():
    name, _, value = part.partition('=')
    try:
      found[name.strip()] = float(value)
      if not (name.strip() and found[name.strip()] > 0):
        raise ValueError('it is not above 0')
    except ValueError as error:
      raise UserError(
        f'--actor_needs {text}: give resources of Ray, as in GPU=1,CPU=4'
      ) from error
  return found


def room(
  nodes: Sequence[Mapping[str, float]],
  actors: int | None,
  needs: Mapping[str, float],
) -> tuple[int, dict[str, float]]:
  """(how many actors, what each takes) on machines with these resources.

  Raises UserError if not a single actor has room.
  """
  taken = dict(needs)
  if not taken:
    chips = [node['TPU'] for node in nodes if node.get('TPU')]
    if chips:
      taken['TPU'] = min(chips)  # one process has all chips of a host
    elif any(node.get('GPU') for node in nodes):
      taken['GPU'] = 1.0
    else:
      taken['CPU'] = 1.0
  places = sum(
    int(min(node.get(name, 0) // value for name, value in taken.items()))
    for node in nodes
  )
  if actors is None and 'CPU' in taken and len(taken) == 1:
    places = min(places, len(nodes))  # JAX takes all cores of a machine
  wanted = actors or places
  if not places or wanted > places:
    what = ', '.join(f'{name}={value:g}' for name, value in taken.items())
    raise UserError(
      f'the Ray cluster has room for {places} actors with {what}: give fewer '
      '--actors, or other --actor_needs'
    )
  return wanted, taken


def _here(actors: int | None) -> dict[str, Any]:
  """How Ray is started on this machine, where no cluster is given."""
  # A core for each actor, as far as Ray counts, and one for Ray Data.
  cores = max(len(os.sched_getaffinity(0)), (actors or 1) + 1)
  return {'address': 'local', 'include_dashboard': False, 'num_cpus': cores}
