"""OUT/manifest.json: what was asked for, and what became of every item.

It is the same file for every way of running: no times, hosts, folders, workers.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL

from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.tree import Tree, sum_of
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.progress import counted
from mmicl_jax.runtime.versions import version

NAME = 'manifest.json'
BUILDER = 1  # another one makes other bytes of the same files
_ARGUMENTS = (
  'dataset',
  'seed',
  'shots',
  'limit',
  'style',
  'retrieve',
  'output',
  'settings',
  'templates',
  'versions',
)


def planned(plan: Plan, splits: tuple[str, ...]) -> dict[str, Any]:
  """The manifest of a build before its first item."""
  versions = {
    'mmicl_jax': version('mmicl_jax'),
    'builder': BUILDER,
    'Pillow': PIL.__version__,
    'av': version('av'),
  }
  return {
    'format': 1,
    'complete': False,
    **plan.arguments(splits),
    'raw': {},
    'splits': {split: {} for split in splits},
    'unlabelled': [],
    'images': {},
    'versions': versions,
  }


def arguments(whole: dict[str, Any]) -> dict[str, Any]:
  """Of a manifest, all that is known before the first item."""
  asked = {name: whole.get(name) for name in _ARGUMENTS}
  return {**asked, 'splits': list(whole.get('splits', ()))}


def read(out: Path) -> dict[str, Any] | None:
  """The manifest of a folder; None if it has none."""
  try:
    value = json.loads((out / NAME).read_text('utf-8'))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise UserError(
      f'{out / NAME} cannot be read ({error}): name another --out, or remove it'
    ) from error
  if not isinstance(value, dict) or value.get('format') != 1:
    raise UserError(f'{out / NAME} is no manifest of a build: choose another')
  return value


def same(found: dict[str, Any], asked: dict[str, Any], tree: Tree) -> bool:
  """Whether a folder holds the build that is asked for, of the same files.

  One that had too many bad items holds no records: then the files may have been
  mended.
  """
  if arguments(found) != arguments(asked):
    return False
  return not found.get('complete') or unchanged(found['raw'], tree)


def unchanged(sums: dict[str, str], tree: Tree) -> bool:
  """Whether annotation files are what they were when they were read."""
  return next(_changed(sums, tree), None) is None


def _changed(sums: dict[str, str], tree: Tree) -> Iterator[str]:
  for path, digest in sums.items():
    place = tree.annotations / path
    if not place.is_file() or sum_of(place) != digest:
      yield path


def verify(found: dict[str, Any], out: Path) -> bool:
  """Whether all files and pictures of a finished build are there, and whole.

  A picture that is not what it is named by is removed, to be made again.
  """
  for split in found['splits'].values():
    for name, digest in split['files'].items():
      if not (out / name).is_file() or sum_of(out / name) != digest:
        return False
  if not found['images']['count'] or found['output'] != 'jsonl':
    return True
  folder = out / 'images'
  paths = sorted(folder.iterdir()) if folder.is_dir() else []
  whole = set()
  for path in counted('pictures to verify', paths, len(paths)):
    if path.is_file() and sum_of(path).startswith(path.stem):
      whole.add(path.name)
    else:
      path.unlink()
  return images(whole) == found['images']


def another(
  found: dict[str, Any], asked: dict[str, Any], plan: Plan
) -> UserError:
  """An error that says in what a folder's build differs."""
  old, new = arguments(found), arguments(asked)
  differing = [name for name in new if old.get(name) != new[name]]
  name = differing[0] if differing else ''
  what = (
    f'another build (its {name} is {json.dumps(old.get(name))}, not '
    f'{json.dumps(new[name])})'
    if differing
    else f'a build of another {next(_changed(found["raw"], plan.tree))}'
  )
  return UserError(
    f'--out {plan.out} holds {what}: name another folder, or --overwrite it'
  )


def images(names: set[str]) -> dict[str, Any]:
  """The number of pictures, and a sum of their sorted names."""
  text = ''.join(f'{name}\n' for name in sorted(names))
  return {
    'count': len(names),
    'sha256': hashlib.sha256(text.encode()).hexdigest(),
  }


def too_bad(whole: dict[str, Any], plan: Plan) -> str:
  """One sentence if more items are bad than may be, or if all are skipped.

  '' if not. Official sets have items without an answer by design: these are
  skipped, but not bad.
  """
  splits = whole['splits'].values()
  found = sum(split['found'] for split in splits)
  if not found:
    return f'{plan.tree.root}: no items of {plan.dataset.name} in it'
  skipped: dict[str, int] = {}
  for split in splits:
    for reason, sources in split['skipped'].items():
      skipped[reason] = skipped.get(reason, 0) + len(sources)
  reasons = {k: count for k, count in skipped.items() if k != 'no_answer'}
  bad = sum(reasons.values())
  if bad > plan.max_bad * found:
    what = (
      f'{bad} of {found} items are bad, more than --max_bad {plan.max_bad:g} '
      'allows'
    )
  elif not any(split['written'] for split in splits):
    what, reasons = f'none of {found} items gives a record', skipped
  else:
    return ''
  worst = max(reasons, key=lambda reason: (reasons[reason], reason))
  return (
    f'{what}; the commonest reason is {worst} ({reasons[worst]}): see '
    f'{plan.out / NAME}'
  )
