r"""Kills commands again and again and checks that nothing is lost.

  python tests/kills.py build train generate eval cache-features \
    to-jax to-pytorch

Each life of a command ends by SIGKILL or SIGTERM at a random moment: while it
starts, while it works, or while a file is written. It is started again until it
is complete; then its output must be that of a command that nobody disturbed,
bit for bit, and no kill may have lowered what was saved. Then it begins anew,
until it was killed so often.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent / 'helpers'))
import disturbed  # noqa: E402
from disturbed import JOBS, Job  # noqa: E402

# The children start from a process that has imported everything but has not
# started JAX.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
  ['disturbed', 'mmicl_jax.inference.load', 'mmicl_jax.commands.convert']
)
MOMENTS = ('start', 'work', 'write')


def run(folder: Path, job: Job, kills: int, seed: int) -> list[str]:
  """Kills a command so often, lets it complete, and compares.

  Returns how each life ended. Raises AssertionError if anything is lost.
  """
  rng = random.Random(seed)
  job.prepare(folder)
  _complete(folder, job, 'whole')  # compiles
  shortest = _complete(folder, job, 'killed')
  job.compare(folder)
  disturbed.remove_outputs(folder)
  ends: list[str] = []
  while len(ends) < kills:
    saved = job.saved(folder, 'killed')
    end = kill_once(folder, job, shortest, rng)
    assert job.saved(folder, 'killed') >= saved, f'{end}: something was lost'
    if end:
      ends.append(end)
      print(f'{len(ends)}/{kills} {end}', flush=True)
    if not end or job.complete(folder):
      job.compare(folder)
      disturbed.remove_outputs(folder)
  _complete(folder, job, 'killed')
  job.compare(folder)
  return ends


def kill_once(
  folder: Path, job: Job, shortest: float, rng: random.Random
) -> str:
  """One life and how it ended; '' if the command completed first."""
  moment = rng.choice(MOMENTS)
  number = rng.choice((signal.SIGKILL, signal.SIGTERM))
  before, torn = _size(folder), len(_unfinished(folder))
  child = _start(folder, job, 'killed')
  if moment == 'start':
    child.join(rng.uniform(0, shortest))
  else:
    while child.is_alive() and _size(folder) == before:
      child.join(0.01)
    if moment == 'work':
      child.join(rng.uniform(0, shortest / 2))
  if moment == 'write':
    while child.is_alive() and len(_unfinished(folder)) == torn:
      child.join(0.001)
    time.sleep(rng.choice((0, 0, 0.002, 0.01)))
  if not child.is_alive():
    _ended(folder, child, 'killed', {0})
    return ''
  inside = ' inside a write' if len(_unfinished(folder)) > torn else ''
  assert child.pid is not None
  with contextlib.suppress(ProcessLookupError):  # it ended just now
    os.kill(child.pid, number)
  # Who could finish says so by 0.
  status = _ended(folder, child, 'killed', {0, -number})
  return f'{number.name} at {moment}{inside}, exit {status}'


def _start(folder: Path, job: Job, name: str):
  child = CONTEXT.Process(target=disturbed.live, args=(job, str(folder), name))
  child.start()
  return child


def _complete(folder: Path, job: Job, name: str) -> float:
  """A life that nobody disturbs; its seconds."""
  began = time.monotonic()
  _ended(folder, _start(folder, job, name), name, {0})
  return time.monotonic() - began


def _ended(folder: Path, child, name: str, allowed: set[int]) -> int:
  child.join(1800)
  said = (folder / f'{name}.log').read_text()[-3000:]
  assert child.exitcode in allowed, f'exit {child.exitcode}\n{said}'
  assert 'Traceback' not in said, said
  return child.exitcode


def _size(folder: Path) -> int:
  total = 0
  for path in disturbed.outputs(folder):
    try:
      total += path.stat().st_size
    except FileNotFoundError:  # it has just been renamed
      total += 1
  return total


def _unfinished(folder: Path) -> list[Path]:
  return [path for path in disturbed.outputs(folder) if 'tmp' in path.name]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('job', nargs='*', default=list(JOBS), choices=JOBS)
  parser.add_argument('--kills', type=int, default=40, help='of each command')
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  for name in args.job:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      ends = run(Path(folder), JOBS[name](), args.kills, args.seed)
    inside = sum('inside a write' in end for end in ends)
    hard = sum('SIGKILL' in end for end in ends)
    print(
      f'{name}: {len(ends)} kills ({hard} by SIGKILL, {inside} inside a '
      f'write), seed {args.seed}, {time.monotonic() - began:.0f} s: nothing '
      'was lost, bit-equal to the undisturbed command',
      flush=True,
    )


if __name__ == '__main__':
  # As the module that the children import, not as __main__.
  import kills

  kills.main()
