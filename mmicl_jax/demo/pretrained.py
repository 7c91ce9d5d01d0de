"""The towers and the language model of another run of the demo.

They stand in for pre-trained ones, so all ablations of a seed may share them.
"""

from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.demo.lessons import PHASES
from mmicl_jax.demo.results import LedgerRow, PhaseResult, Results
from mmicl_jax.errors import UserError

_PHASES = ('towers', PHASES[0].name)


@dataclass(frozen=True)
class Pretrained:
  """A checkpoint to start from, and how it came about."""

  checkpoint: Path
  phases: tuple[PhaseResult, ...]
  ledger: tuple[LedgerRow, ...]


def read_pretrained(run: Path, seed: int, preset: str) -> Pretrained:
  """What a finished run of the demo has before stage 1.

  Raises UserError if it is no such run, or has another seed or preset.
  """
  path = run / 'results.json'
  checkpoint = run / _PHASES[-1]
  if not (path.is_file() and (checkpoint / model_dir.MODEL).is_file()):
    raise UserError(
      f'{run} is no finished run of mmicl demo: it needs {path.name} and '
      f'{checkpoint.name}/'
    )
  found = Results.load(str(path))
  if (found.seed, found.preset) != (seed, preset):
    raise UserError(
      f'{run} has seed {found.seed} and preset {found.preset}, not seed {seed} '
      f'and preset {preset}: name a run that has'
    )
  return Pretrained(
    checkpoint,
    tuple(phase for phase in found.phases if phase.name in _PHASES),
    tuple(row for row in found.ledger if row.phase in _PHASES),
  )
