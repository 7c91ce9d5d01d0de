"""Kills a tiny training run again and again and checks that nothing is lost.

  python tests/kills.py --kills 30

Each life of the run ends by SIGKILL or SIGTERM at a random moment: while it
starts, between steps, or while a checkpoint is being written. When the run is
complete, its parameters and the ids of the examples of every step must be
those of a run that nobody disturbed, bit for bit.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from mmicl_jax.checkpoints import steps as checkpoint_steps
from mmicl_jax.checkpoints import store
from mmicl_jax.data.loader import record_loader
from mmicl_jax.training import optim
from mmicl_jax.training.loop import train
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)

sys.path.append(str(Path(__file__).parent / 'helpers'))
import tiny_records  # noqa: E402

# The children start from a process that has imported everything but has not
# started JAX.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
  ['mmicl_jax.training.loop', 'mmicl_jax.data.loader']
)
MOMENTS = ('start', 'step', 'save')


class Recorded:
  """A loader that writes the ids of each batch's examples to a file."""

  def __init__(self, loader, path, pause):
    self.loader, self.path, self.pause = loader, path, pause
    self.get_state, self.set_state = loader.get_state, loader.set_state

  def __iter__(self):
    with open(self.path, 'a') as file:
      for batch, info in self.loader:
        file.write(json.dumps([info.next_step, info.ids]) + '\n')
        file.flush()
        time.sleep(self.pause)
        yield batch, info


def live(folder: str, name: str, steps: int, pause: float) -> None:
  """One life: trains in folder/name from whatever is there."""
  os.environ['JAX_PLATFORMS'] = 'cpu'
  jax.config.update('jax_compilation_cache_dir', f'{folder}/cache')
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  sys.stderr = open(f'{folder}/{name}.log', 'a')  # its progress, not ours
  data = Path(folder)
  config = tiny_records.config(data)
  loader = record_loader(
    str(data / 'train.jsonl'),
    config,
    str(data / 'spiece.model'),
    batch_size=2,
    inputs_length=48,
    targets_length=4,
    max_images=1,
    seed=1,
  )
  train(
    ModelSettings(config, 'tune'),
    DataSettings(Recorded(loader, f'{folder}/{name}.ids', pause)),
    StepSettings(steps, 2, optim.constant(1e-2)),
    RunSettings(f'{folder}/{name}', save_every=2, keep=2),
  )


def ids(folder: Path, name: str) -> dict[int, list[str]]:
  """The ids of each step; a step that ran twice must have read the same."""
  found: dict[int, list[str]] = {}
  path = folder / f'{name}.ids'
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      step, names = json.loads(line)
    except ValueError:  # the line that a kill cut short
      continue
    assert found.setdefault(step, names) == names, f'step {step} read others'
  return found


def complete(folder: Path, name: str, steps: int) -> bool:
  return checkpoint_steps.latest_step(folder / name) == steps


def kill_once(folder: Path, steps: int, rng: random.Random) -> str:
  """One life and how it ended; '' if the run completed first."""
  moment = rng.choice(MOMENTS)
  number = rng.choice((signal.SIGKILL, signal.SIGTERM))
  path = folder / 'killed.ids'
  size = path.stat().st_size if path.exists() else 0
  child = CONTEXT.Process(
    target=live, args=(str(folder), 'killed', steps, 0.02)
  )
  child.start()
  assert child.pid is not None
  if moment == 'start':
    time.sleep(rng.uniform(0, 3))
  else:
    while child.is_alive() and not (
      path.exists() and path.stat().st_size > size
    ):
      time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.5))
  if moment == 'save':
    while child.is_alive() and not any(folder.glob('killed/*tmp*')):
      time.sleep(0.0005)
    time.sleep(rng.choice((0, 0, 0.002, 0.01)))
  if not child.is_alive():
    child.join()
    assert child.exitcode == 0, (folder / 'killed.log').read_text()[-3000:]
    return ''
  torn = any(folder.glob('killed/*tmp*'))
  os.kill(child.pid, number)
  child.join(300)
  # A life that could finish its step and its save says so by 0.
  allowed = {-signal.SIGKILL} if number == signal.SIGKILL else {0, -number}
  assert child.exitcode in allowed | {0}, (
    f'{number.name} at {moment}: exit {child.exitcode}\n'
    + (folder / 'killed.log').read_text()[-3000:]
  )
  inside = ' inside a save' if torn else ''
  return f'{number.name} at {moment}{inside}, exit {child.exitcode}'


def run(folder: Path, kills: int, steps: int, seed: int) -> list[str]:
  """Kills a run so often, lets it complete, and compares; says what it did.

  Raises AssertionError if anything differs from the undisturbed run.
  """
  rng = random.Random(seed)
  tiny_records.write(folder, 7)
  whole = CONTEXT.Process(target=live, args=(str(folder), 'whole', steps, 0))
  whole.start()
  whole.join()
  assert whole.exitcode == 0, (folder / 'whole.log').read_text()[-3000:]
  ends = []
  while len(ends) < kills and not complete(folder, 'killed', steps):
    if end := kill_once(folder, steps, rng):
      ends.append(end)
      print(f'{len(ends)}/{kills} {end}', flush=True)
  last = CONTEXT.Process(target=live, args=(str(folder), 'killed', steps, 0))
  last.start()
  last.join()
  assert last.exitcode == 0, (folder / 'killed.log').read_text()[-3000:]
  compare(folder, steps)
  return ends


def compare(folder: Path, steps: int) -> None:
  expected, found = ids(folder, 'whole'), ids(folder, 'killed')
  assert found == expected and set(expected) == set(range(1, steps + 1))
  one, other = (
    traverse_util.flatten_dict(store.load_weights(folder / name), sep='/')
    for name in ('whole', 'killed')
  )
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_array_equal(value, other[name], err_msg=name)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=30)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    ends = run(Path(folder), args.kills, args.steps, args.seed)
  inside = sum('inside a save' in end for end in ends)
  print(
    f'{len(ends)} kills, {inside} of them inside a save: parameters and the '
    f'ids of all {args.steps} steps are bit-equal to the undisturbed run'
  )


if __name__ == '__main__':
  # As the module that the children import, not as __main__.
  import kills

  kills.main()
