"""Shards of `mmicl eval` to the folder that one run would have made."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.annotations import FOLDER as ANNOTATIONS
from mmicl_jax.evaluation.items import BUILT, IMAGES
from mmicl_jax.evaluation.predictions import PREDICTIONS
from mmicl_jax.evaluation.questions import ASKED
from mmicl_jax.evaluation.task_folder import TaskFolder, tasks_in
from mmicl_jax.inference import shards as merging
from mmicl_jax.runtime import files


def merge_folders(out: Path, shards: Sequence[Path]) -> None:
  """Makes `out`, a new folder, of all shards of a run.

  Raises UserError, and makes nothing, if they do not belong together, or if one
  is missing, given twice or not complete.
  """
  tasks = [{t.benchmark.name: t for t in tasks_in(one)} for one in shards]
  for folder, own in zip(shards, tasks, strict=True):
    if own.keys() != tasks[0].keys():
      raise UserError(f'{folder} and {shards[0]} have other tasks')
  with files.new_directory(out) as target:
    for name in tasks[0]:
      _merge([own[name] for own in tasks], target / name)
    images = target / BUILT / IMAGES
    images.mkdir(parents=True)
    for folder in shards:
      for path in sorted((folder / BUILT / IMAGES).glob('*')):
        if not (images / path.name).exists():
          shutil.copyfile(path, images / path.name)


def _check_annotations(one: Path, other: Path) -> None:
  """Raises UserError if two folders hold other files."""
  read, other_read = (
    {p.relative_to(at): p.read_bytes() for p in at.rglob('*') if p.is_file()}
    for at in (one, other)
  )
  for name in sorted(read.keys() | other_read.keys()):
    if read.get(name) != other_read.get(name):
      raise UserError(
        f'{one / name} is another one than that in {other}: ask all shards '
        'with the same files'
      )


def _merge(tasks: Sequence[TaskFolder], target: Path) -> None:
  """One task of all shards."""
  first = tasks[0]
  told = []
  for task in tasks:
    if (task.benchmark, task.variants, dict(task.forms)) != (
      first.benchmark,
      first.variants,
      dict(first.forms),
    ):
      raise UserError(
        f'{task.folder} and {first.folder} were not asked in the same way'
      )
    told.append({**task.arguments, 'shard': task.arguments['shard'] or [0, 1]})
    _check_annotations(task.folder / ANNOTATIONS, first.folder / ANNOTATIONS)
  folders = merging.in_order([task.folder for task in tasks], told)
  for variant in first.variants:
    inside = first.place(variant).relative_to(first.folder)
    asked = (first.place(variant) / ASKED).read_bytes()
    for task in tasks:
      if (task.place(variant) / ASKED).read_bytes() != asked:
        raise UserError(
          f'{task.place(variant) / ASKED} has other questions than that of '
          f'{first.folder}: ask all shards with the same files'
        )
    merging.merge_lines(
      [Path(folder) / inside / PREDICTIONS for folder in folders],
      target / inside / PREDICTIONS,
      first.arguments['block'],
      asked.count(b'\n'),
    )
    files.write_bytes(target / inside / ASKED, asked)
  shutil.copytree(first.folder / ANNOTATIONS, target / ANNOTATIONS)
  whole = TaskFolder(
    target,
    first.benchmark,
    first.variants,
    first.forms,
    {**first.arguments, 'shard': None},
  )
  whole.save()
