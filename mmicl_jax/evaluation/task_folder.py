"""OUT/TASK: what was asked of one benchmark, as task.json keeps it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.declaration import Answering, Benchmark, Published
from mmicl_jax.evaluation.predictions import PREDICTIONS
from mmicl_jax.evaluation.questions import Variant
from mmicl_jax.runtime import files

TASK = 'task.json'


@dataclasses.dataclass(frozen=True)
class TaskFolder:
  """A benchmark in a folder: its declaration, its variants, the arguments."""

  folder: Path
  benchmark: Benchmark
  variants: tuple[Variant, ...]
  forms: Mapping[str, str]
  arguments: Mapping[str, Any]

  def place(self, variant: Variant) -> Path:
    """Where a variant's files are."""
    return folder_of(self.folder, self.variants, variant)

  def save(self) -> None:
    """Writes task.json."""
    value = {
      'benchmark': dataclasses.asdict(self.benchmark),
      'variants': [dataclasses.asdict(v) for v in self.variants],
      'forms': dict(self.forms),
      'arguments': dict(self.arguments),
    }
    files.write_json(self.folder / TASK, value)


def folder_of(
  folder: Path, variants: Sequence[Variant], variant: Variant
) -> Path:
  """The task's own folder for the first variant, one in it for another."""
  return folder if variant == variants[0] else folder / variant.label


def read_task(folder: Path) -> TaskFolder:
  """Reads OUT/TASK; raises UserError if it holds no task of this program."""
  path = folder / TASK
  try:
    value = json.loads(path.read_text('utf-8'))
    own = value['benchmark']
    own['answering'] = _answering(own['answering'])
    own['split_answering'] = {
      k: _answering(v) for k, v in own['split_answering'].items()
    }
    own['published'] = tuple(Published(**x) for x in own['published'])
    for key in ('forms', 'splits', 'annotations', 'notes'):
      own[key] = tuple(own[key])
    return TaskFolder(
      folder,
      Benchmark(**own),
      tuple(Variant(**v) for v in value['variants']),
      value['forms'],
      value['arguments'],
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: not a task of `mmicl eval` ({error}): name its --out folder'
    ) from error


def tasks_in(out: Path) -> list[TaskFolder]:
  """All tasks of a run's folder, by name; raises UserError if it has none."""
  folders = sorted(path.parent for path in out.glob(f'*/{TASK}'))
  if not folders:
    raise UserError(f'{out}: no task of `mmicl eval` in it: name its --out')
  found = [read_task(folder) for folder in folders]
  for task in found:
    for variant in task.variants:
      path = task.place(variant) / PREDICTIONS
      if not path.is_file():
        raise UserError(f'{path} is missing: run mmicl eval again')
  return found


def _answering(value: dict[str, Any]) -> Answering:
  if isinstance(value['candidates'], list):
    value = {**value, 'candidates': tuple(value['candidates'])}
  return Answering(**value)
