"""Feeds odd input to everything that reads some, and checks what comes back.

  python tests/fuzz.py --cases 2000 --seed 0

Of each kind so many cases. Input is taken or refused by a UserError; anything
else is a fault. What is taken must be right: a record reads the same when it
is written and read again, gives as many image tokens as it has images, and is
one that `mmicl data check` finds no fault with; weights are those that were
saved; pixels do not depend on how the file was handed over.
"""

import argparse
import collections
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).parent / 'helpers'))
from odd import KINDS  # noqa: E402

from mmicl_jax.errors import UserError  # noqa: E402


def run(
  folder: Path, kind: str, cases: int, seed: int
) -> tuple[int, list[str]]:
  """(how many were taken, what went wrong), of so many cases of a kind."""
  place = folder / kind
  place.mkdir()
  case = KINDS[kind](place)
  taken, faults = 0, []
  for i in range(cases):
    try:
      case(random.Random(f'{kind} {seed} {i}'))
      taken += 1
    except UserError as error:
      if '\n' in str(error) or not str(error):
        faults.append(f'{kind} {seed} {i}: not one sentence: {error}')
    except Exception:
      faults.append(f'{kind} {seed} {i}: {traceback.format_exc()}')
  return taken, faults


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('kind', nargs='*', default=list(KINDS), choices=KINDS)
  parser.add_argument('--cases', type=int, default=2000, help='of each kind')
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  wrong = 0
  for kind in args.kind:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      taken, faults = run(Path(folder), kind, args.cases, args.seed)
    shown = collections.Counter(fault.splitlines()[-1] for fault in faults)
    for text, count in shown.items():
      first = next(f for f in faults if f.splitlines()[-1] == text)
      print(f'{count} times:\n{first}')
    print(
      f'{kind}: {args.cases} cases, seed {args.seed}: {taken} taken, '
      f'{args.cases - taken - len(faults)} refused, {len(faults)} faults, '
      f'{time.monotonic() - began:.0f} s',
      flush=True,
    )
    wrong += len(faults)
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
