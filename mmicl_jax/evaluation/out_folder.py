"""OUT of `mmicl eval`: what in it is ours, so that nothing else is touched."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.annotations import FOLDER as ANNOTATIONS
from mmicl_jax.evaluation.items import BUILT
from mmicl_jax.evaluation.questions import ASKED
from mmicl_jax.evaluation.report import JSON, MARKDOWN, PAGE
from mmicl_jax.evaluation.task_folder import TASK

# As runtime/files.py names a file that is being written.
_UNFINISHED = re.compile(r'\..+\.\d+-[0-9a-f]{8}\.tmp')


def check_folder(out: Path, tasks: Iterable[str], raw: Iterable[Path]) -> None:
  """Raises UserError if a run would write where something else is.

  tasks: the names of those that are asked. raw: folders of official files.
  """
  if not any(out.glob(f'*/{TASK}')):
    for name in (JSON, MARKDOWN, PAGE):
      if (out / name).exists():
        raise UserError(
          f'{out / name} is no report of mmicl eval: choose another --out'
        )
  official = {os.path.realpath(folder) for folder in raw}
  for name in tasks:
    folder = out / name
    asked = any((folder / file).exists() for file in (TASK, ASKED))
    # Its annotations come after its questions.
    other = (folder / ANNOTATIONS).exists() and not asked
    if other or os.path.realpath(folder) in official:
      raise UserError(
        f'{folder} holds files that mmicl eval has not written: choose another '
        '--out'
      )


def remove_unfinished(out: Path, tasks: Iterable[str]) -> None:
  """Removes what a run left that was killed while it wrote."""
  for name in (BUILT, *tasks):
    for left in (out / name).rglob('.*.tmp'):
      if _UNFINISHED.fullmatch(left.name) and left.is_file():
        left.unlink()
    shutil.rmtree(new_annotations(out / name), ignore_errors=True)


def new_annotations(folder: Path) -> Path:
  """Where a task's annotations are until its questions are known to fit."""
  return folder / f'{ANNOTATIONS}.new'


def accept_annotations(folder: Path) -> None:
  """Puts the new annotations of a task in the place of the former ones."""
  if new_annotations(folder).exists():
    shutil.rmtree(folder / ANNOTATIONS, ignore_errors=True)
    new_annotations(folder).rename(folder / ANNOTATIONS)
