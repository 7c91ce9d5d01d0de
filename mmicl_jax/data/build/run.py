"""`mmicl data build`: a plan to record files, pictures and a manifest.

Everything is made in OUT/.parts, a part at a time, each under its final name
only when it is whole. So a build that was killed goes on with the first part
that is missing, and files appear in OUT when all of them are done.
"""

import base64
import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmicl_jax.data.build import manifest
from mmicl_jax.data.build.assembly import Assembly
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.looking import Engine, Looks, Processes
from mmicl_jax.data.build.nearest import Nearest, NearestPictures, NearestWords
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.shards import write_shards
from mmicl_jax.data.build.tree import sum_of
from mmicl_jax.data.records import Record, write_records
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import files
from mmicl_jax.runtime.progress import counted

PARTS = '.parts'
IMAGES = 'images'
_ARGUMENTS = 'arguments.json'


def build(
  plan: Plan,
  workers: int = 1,
  overwrite: bool = False,
  engine: Engine | None = None,
) -> dict:
  """Builds what is planned, or what is left of it; returns the manifest.

  engine: what looks at pictures, by default so many processes.
  Raises UserError for a tree that is not the official one, for more bad items
  than the plan allows, for items of which none gives a record, and for a folder
  that holds another build, unless it may be overwritten.
  """
  engine = engine or Processes(workers)
  chosen, unlabelled = plan.chosen()
  out, parts = plan.out, plan.out / PARTS
  whole = manifest.planned(plan, chosen)
  found = manifest.read(out)
  if found is not None and manifest.same(found, whole, plan.tree):
    if found['complete'] and manifest.verify(found, out):
      shutil.rmtree(parts, ignore_errors=True)  # a kill may have left it
      return found
  elif found is not None and not overwrite:
    raise manifest.another(found, whole, plan)
  _open_parts(parts, whole, plan, overwrite)

  used: set[str] = set()
  try:
    for split in chosen:
      whole['splits'][split], names = _split(plan, split, parts, engine)
      used |= names
  except UserError:
    _forget(out, parts)
    raise
  whole['raw'] = dict(sorted(plan.tree.sums.items()))
  whole['unlabelled'] = list(unlabelled)
  whole['images'] = manifest.images(used)
  bad = manifest.too_bad(whole, plan)
  whole['complete'] = not bad
  if bad:
    for split in whole['splits'].values():
      split['files'] = {}
    whole['images'] = manifest.images(set())
    _publish(plan, whole, set())
    raise UserError(bad)
  _publish(plan, whole, used)
  return whole


def _open_parts(
  parts: Path, whole: dict[str, Any], plan: Plan, overwrite: bool
) -> None:
  """Makes the folder for unfinished work, or finds that of the same build."""
  arguments = parts / _ARGUMENTS
  asked = manifest.arguments(whole)
  if parts.exists():
    with contextlib.suppress(OSError, ValueError):
      if json.loads(arguments.read_text('utf-8')) == asked:
        return
    if arguments.exists() and not overwrite:
      begun = json.loads(arguments.read_text('utf-8'))
      raise manifest.another(begun, whole, plan)
    for path in parts.iterdir():  # the folder itself says that OUT is ours
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  else:
    _refuse_theirs(plan.out)
  parts.mkdir(parents=True, exist_ok=True)
  files.write_json(arguments, asked)


def _refuse_theirs(out: Path) -> None:
  """Raises UserError for a folder that holds files, and not of a build."""
  if out.exists() and not out.is_dir():
    raise UserError(f'--out {out} is a file: name a folder')
  theirs = [path.name for path in out.iterdir()] if out.exists() else []
  if theirs and manifest.read(out) is None:
    raise UserError(
      f'--out {out} holds {min(theirs)} and no manifest.json of a build: name '
      'a new folder'
    )


def _forget(out: Path, parts: Path) -> None:
  """Leaves no trace of a build that failed before it had made anything."""
  made = {path.name for path in parts.iterdir()} - {_ARGUMENTS, IMAGES}
  if made:
    return
  shutil.rmtree(parts)
  with contextlib.suppress(OSError):  # it is not empty: it was there before
    out.rmdir()


def _split(
  plan: Plan, split: str, parts: Path, engine: Engine
) -> tuple[dict[str, Any], set[str]]:
  """Writes a split's files into `parts`; its entry in the manifest, and the
  names of its pictures."""
  name = split.replace('/', '.')
  done = parts / f'{name}.done.json'
  if done.exists():
    state = json.loads(done.read_text('utf-8'))
    there = _all_there(plan.out, parts, state['entry']['files'])
    if there and manifest.unchanged(state['raw'], plan.tree):
      plan.tree.sums.update(state['raw'])
      return state['entry'], set(state['used'])
  before = dict(plan.tree.sums)
  paths = plan.annotations(split)
  read = plan.dataset.items(plan.tree, split, plan.all_settings, paths)
  entries: Sequence[SourceItem | Skip] = list(counted(f'{split}: items', read))
  folder = _images(plan, parts)
  looks = Looks(plan.tree, folder, parts / name, f'{split}: pictures')
  if plan.limit is None or plan.retrieve == 'image':
    looks.look_at_all(entries, engine)
  assembly = Assembly(
    plan.dataset.name,
    split,
    entries,
    looks.names,
    plan.templates(split),
    plan.seed,
    plan.most_shots,
    plan.style,
    _nearest(plan, looks, folder, parts),
  )
  entry: dict[str, Any] = {
    'found': 0, 'written': 0, 'skipped': {}, 'repaired': {}, 'files': {}
  }  # fmt: skip
  used: set[str] = set()
  unlabelled = split in plan.dataset.unlabelled
  records = _records(assembly, entries, entry, used, unlabelled, plan.limit)
  if plan.format == 'jsonl':
    made = [parts / f'{name}.jsonl']
    write_records(made[0], records)
  else:
    made = write_shards(parts, name, (_embedded(r, folder) for r in records))
  entry['files'] = {path.name: sum_of(path) for path in made}
  raw = {k: v for k, v in plan.tree.sums.items() if before.get(k) != v}
  files.write_json(done, {'entry': entry, 'used': sorted(used), 'raw': raw})
  shutil.rmtree(parts / name, ignore_errors=True)
  return entry, used


def _nearest(
  plan: Plan, looks: Looks, folder: Path, parts: Path
) -> Callable[[Sequence[SourceItem | Skip]], Nearest] | None:
  """What makes of a pool that which finds the nearest in it."""
  if plan.vectors is None:
    return NearestWords if plan.retrieve == 'question' else None
  found: dict[str, Any] = {}
  if names := looks.sound:
    paths = [os.fspath(folder / name) for name in names]
    vectors = plan.vectors(paths, parts / 'features')
    found = dict(zip(names, vectors, strict=True))
  width = next((len(vector) for vector in found.values()), 1)

  def vector(item: SourceItem) -> Any:
    own = looks.names(item)
    if isinstance(own, str) or not own:
      return np.zeros(width)
    mean = np.mean([found[name] for name in own], 0)
    return mean / (np.linalg.norm(mean) or 1.0)

  return functools.partial(NearestPictures, vector=vector)


def _records(
  assembly: Assembly,
  entries: Sequence[SourceItem | Skip],
  entry: dict[str, Any],
  used: set[str],
  unlabelled: bool,
  limit: int | None,
) -> Iterator[Record]:
  """The records, in order; counts into `entry` and names pictures in `used`."""
  written: set[str] = set()
  skipped: dict[str, list[str]] = {}
  parted: set[str] = set()
  repaired: dict[str, dict[str, None]] = {}
  for item in counted(f'{assembly.split}: records', entries, len(entries)):
    if isinstance(item, Skip):
      reason = item.reason
    else:
      reason = assembly.problem(item)
      if not reason and not unlabelled and not assembly.answered(item):
        reason = 'no_answer'
    if reason:
      # Parts of one official item are one; rows with the same id are not.
      if isinstance(item, Skip) or item.source not in parted:
        skipped.setdefault(reason, []).append(item.source)
      if isinstance(item, SourceItem):
        parted.add(item.source)
      continue
    assert isinstance(item, SourceItem)
    record = assembly.record(item)
    used.update(os.path.basename(str(image)) for image in record.images)
    written.add(item.source)
    for what in item.repaired:
      repaired.setdefault(what, {})[item.source] = None
    entry['written'] += 1
    yield record
    if entry['written'] == limit:
      break
  for reason, sources in sorted(skipped.items()):
    # An item with a record is not skipped, but its double is.
    left = [x for x in sources if reason == 'duplicate_id' or x not in written]
    if left:
      entry['skipped'][reason] = left
  entry['repaired'] = {k: list(v) for k, v in sorted(repaired.items())}
  entry['found'] = len(written) + sum(map(len, entry['skipped'].values()))


def _embedded(record: Record, folder: Path) -> dict[str, Any]:
  """The JSON object of a record that holds its pictures."""
  value = json.loads(record.to_json())
  value['input_image'] = [
    base64.b64encode((folder / os.path.basename(image)).read_bytes()).decode()
    for image in value['input_image']
  ]
  return value


def _images(plan: Plan, parts: Path) -> Path:
  """Where pictures are kept: in OUT, unless the records will hold them."""
  return (plan.out if plan.format == 'jsonl' else parts) / IMAGES


def _all_there(out: Path, parts: Path, sums: dict[str, str]) -> bool:
  """Whether each file lies in `parts`, or in OUT already, whole."""
  return all(
    any(
      (folder / name).is_file() and sum_of(folder / name) == digest
      for folder in (parts, out)
    )
    for name, digest in sums.items()
  )


def _publish(plan: Plan, whole: dict[str, Any], used: set[str]) -> None:
  """Everything to its final name, and what was there before away.

  The manifest is last: until then, the former one says what is to be removed.
  """
  out, parts = plan.out, plan.out / PARTS
  before = manifest.read(out) or {'splits': {}}
  new = {f for s in whole['splits'].values() for f in s['files']}
  for name in new:
    if (parts / name).exists():
      os.replace(parts / name, out / name)
  for split in before['splits'].values():
    for name in set(split['files']) - new:
      (out / os.path.basename(name)).unlink(missing_ok=True)
  folder = out / IMAGES
  if folder.is_dir():
    keep = used if plan.format == 'jsonl' else set()
    for path in folder.iterdir():
      if path.name not in keep:
        path.unlink()
    if not keep:
      folder.rmdir()
  files.write_json(parts / manifest.NAME, whole)
  os.replace(parts / manifest.NAME, out / manifest.NAME)
  shutil.rmtree(parts)
