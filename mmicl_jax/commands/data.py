"""`mmicl data check | stats | show | cache-features`: work on MIC records."""

import argparse
import itertools
import os
import random
from typing import Any

from mmicl_jax.commands import data_build, data_stats
from mmicl_jax.commands.model_arguments import add_shard, parse_shard
from mmicl_jax.data import across, gallery, opened
from mmicl_jax.data.check import manifest_problems, problems
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.lock import only_writer
from mmicl_jax.runtime.outputs import check_output
from mmicl_jax.runtime.progress import counted

_PRINTED = 100  # problems printed as text; --json prints all of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.epilog = 'example: mmicl data check train.jsonl'
  actions = parser.add_subparsers(
    dest='action', metavar='ACTION', required=True
  )

  check = _action(
    actions,
    'check',
    'find what is wrong with each record; exit 2 if anything is',
    'mmicl data check train.jsonl --images --json',
  )
  check.add_argument(
    '--images',
    action='store_true',
    help='also open every image, not only check that its file exists; of built '
    'folders always',
  )
  check.add_argument(
    '--against',
    nargs='+',
    default=[],
    metavar='OUT',
    help='count pictures, by content, that these sets have too',
  )
  _json(check)

  stats = _action(
    actions,
    'stats',
    'count records, images and text',
    'mmicl data stats train.jsonl --json',
  )
  data_stats.add_arguments(stats)
  _json(stats)

  show = _action(
    actions,
    'show',
    'write an HTML page with records and their images',
    'mmicl data show train.jsonl --out page.html --limit 50',
  )
  show.add_argument('--out', required=True, help='the HTML file to write')
  show.add_argument(
    '--limit',
    type=int,
    default=20,
    help='how many records, drawn from all over the file (default 20)',
  )

  cache = _action(
    actions,
    'cache-features',
    'compute what frozen towers see in the images, once, for stage 2',
    'mmicl data cache-features train.jsonl --checkpoint runs/one --out cache',
  )
  cache.add_argument(
    '--checkpoint', required=True, help='MODEL_DIR or checkpoint_<step>'
  )
  cache.add_argument('--out', required=True, help='the folder to write or fill')
  cache.add_argument(
    '--dtype',
    choices=('bfloat16', 'float32'),
    default='bfloat16',
    help='dtype of the computation and the features (default %(default)s)',
  )
  cache.add_argument(
    '--batch_size', type=int, default=16, help='images at once (%(default)s)'
  )
  add_shard(cache)
  _json(cache)

  data_build.add_arguments(
    actions.add_parser(
      'build',
      help="make records of a dataset's official files",
      description="Make records of a dataset's official files.",
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
  )


def main(args: argparse.Namespace) -> int:
  if args.action == 'build':
    return data_build.main(args)
  if args.action == 'check':
    return _check(args)
  if args.action == 'stats':
    return data_stats.main(args)
  if args.action == 'cache-features':
    return _cache(args)
  return _show(args)


def _check(args: argparse.Namespace) -> int:
  found: list[dict[str, Any]] = []
  count = bad = printed = 0
  seen = across.Across(contents=bool(args.against))
  sizes: dict[str, int] = {}

  def tell(file: str, line: int, text: str) -> None:
    nonlocal printed
    if args.json:
      found.append({'file': file, 'line': line, 'problem': text})
    elif printed < _PRINTED:
      print(f'{file}:{line}: {text}' if line >= 0 else text)
    printed += 1

  for name in args.files:
    built = os.path.isdir(name)
    for text in manifest_problems(name) if built else ():
      tell(name, -1, text)
    for file in opened.record_files(name):
      entries = problems(file, args.data_dir, args.images or built, seen)
      for line, texts in counted('records', entries):
        count += 1
        bad += bool(texts)
        for text in texts:
          tell(file, line, text)
  if not count:
    raise _empty(args.files)
  shared = {}
  for other in args.against:
    theirs = across.pictures_of(opened.read_all([other], None))
    shared[other] = len(theirs & seen.pictures)
    sizes[other] = len(theirs)
  if args.json:
    value = {
      'file': ', '.join(args.files), 'records': count, 'bad_records': bad
    }  # fmt: skip
    value |= {'warnings': seen.warnings, 'pictures': len(seen.pictures)}
    show.print_json(value | {'against': shared, 'problems': found})
    return 2 if printed else 0
  if printed > _PRINTED:
    print(f'... and {printed - _PRINTED:,} more problems: --json has all.')
  for warning, number in seen.warnings.items():
    print(f'{number:,} records: {warning}; {across.MEANT[warning]}.')
  for other, number in shared.items():
    print(
      f'{number:,} of {len(seen.pictures):,} pictures are also among the '
      f'{sizes[other]:,} of {other}.'
    )
  print(f'{count:,} records, {bad:,} with problems.')
  return 2 if printed else 0


def _cache(args: argparse.Namespace) -> int:
  from mmicl_jax.inference import feature_cache

  shard = parse_shard(args.shard)
  with only_writer(args.out):
    images, added = feature_cache.write_features(
      [file for name in args.files for file in opened.record_files(name)],
      args.checkpoint,
      args.out,
      data_dir=args.data_dir,
      dtype=args.dtype,
      batch_size=args.batch_size,
      shard=shard,
    )
  if args.json:
    show.print_json({'out': args.out, 'images': images, 'added': added}, None)
  elif shard[1] > 1:
    print(
      f'{args.out}: shard {args.shard} of {images:,} images, {added:,} of them '
      'new; put all together with mmicl merge'
    )
  else:
    print(f'{args.out}: {images:,} images, {added:,} of them new')
  return 0


def _show(args: argparse.Namespace) -> int:
  files = [file for name in args.files for file in opened.record_files(name)]
  check_output(args.out, files, mark=b'<!doctype html')
  index = opened.open_chain(args.files, args.data_dir, need_answer=False)
  if not index:
    raise _empty(args.files)
  if args.limit < 1:
    raise UserError(f'--limit {args.limit}: show at least 1 record.')
  page = gallery.render_gallery(index, _spread(len(index), args.limit))
  write_text(args.out, page, 'choose another --out')
  print(args.out)
  return 0


def _spread(count: int, limit: int) -> list[int]:
  """At most `limit` indices, one drawn of each stretch; the same each time.

  Every n-th would be all of one class where the rows go round through classes.
  """
  limit = min(count, limit)
  ends = [i * count // limit for i in range(limit + 1)]
  draw = random.Random(0)
  return [draw.randrange(*stretch) for stretch in itertools.pairwise(ends)]


def _empty(names: list[str]) -> UserError:
  return UserError(
    f'{", ".join(names)}: no records in it; write one JSON object a line.'
  )


def _action(
  actions: Any, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
  parser = actions.add_parser(
    name,
    help=summary,
    description=summary[0].upper() + summary[1:] + '.',
    epilog=f'example: {example}',
  )
  parser.add_argument(
    'files',
    nargs='+',
    metavar='FILE',
    help='JSON Lines, ArrayRecord, or a folder of mmicl data build',
  )
  parser.add_argument(
    '--data_dir', help="the folder of image paths (default: the file's folder)"
  )
  parser.add_argument(
    '--debug',
    action='store_true',
    default=argparse.SUPPRESS,
    help='show the traceback of an error',
  )
  return parser


def _json(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--json', action='store_true', help='print JSON')
