"""`mmicl data stats`: counts records, and what batches of them would waste."""

import argparse
import ast
import dataclasses

from mmicl_jax.context.text import MAX_IMAGES
from mmicl_jax.data import opened
from mmicl_jax.data.fitting import FeatureSpec
from mmicl_jax.data.grouping import Grouping, RowSize, make_grouping
from mmicl_jax.data.stats import QUERIES, summarise
from mmicl_jax.data.waste import measured, padding_waste
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.progress import counted
from mmicl_jax.tokenizer import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--vocabulary', metavar='FILE', help='count tokens, too, by spiece.model'
  )
  parser.add_argument(
    '--lengths',
    metavar='512,128',
    help='of prompt and answer: what these lengths cut and waste',
  )
  parser.add_argument(
    '--buckets',
    help="BUCKETS of mmicl train: what the loader's batches waste, as in "
    '"((128,16,1.5),(512,64,12))"',
  )
  parser.add_argument(
    '--pack',
    action='store_true',
    help='as with PACK; without --buckets at --lengths',
  )
  parser.add_argument(
    '--rows',
    type=int,
    default=16,
    help='of a batch on each device, with --buckets or --pack (%(default)s)',
  )


def main(args: argparse.Namespace) -> int:
  tokenizer = Tokenizer(args.vocabulary) if args.vocabulary else None
  name = ', '.join(args.files)
  found = counted('records', opened.read_all(args.files, args.data_dir))
  sizes: list[RowSize] = []
  grouping = None
  if args.buckets is not None or args.pack:
    if tokenizer is None:
      raise UserError('--buckets and --pack are in tokens: give --vocabulary')
    spec, grouping = _grouping(args)
    found = measured(found, tokenizer, spec, sizes)
  value = summarise(name, found, tokenizer, _lengths(args))
  if grouping is not None and sizes:
    value['batches'] = dataclasses.asdict(padding_waste(sizes, grouping))
  if args.json:
    show.print_json(value)
    return 0
  print(f'{value["records"]:,} records, {value["images"]:,} images')
  tables = [
    [
      {'dataset': name or '(none)', 'records': count}
      for name, count in value['datasets'].items()
    ],
    [
      {'images': n, 'records': count, '': _bar(count, value['records'])}
      for n, count in value['images_per_record'].items()
    ],
    [
      {'length in': name} | {f'{p} %': row[p] for p in row}
      for name, row in value['percentiles'].items()
    ],
    [
      {
        'lengths': f'{row["length"]} {name}',
        'records cut': f'{row["cut"]:.1%}',
        'tokens lost': f'{row["lost"]:.1%}',
        'padding': f'{row["padding"]:.1%}',
      }
      for name, row in value['at_lengths'].items()
    ],
    [
      {
        'batches of': 'packed rows' if args.pack else 'rows of one example',
        'padding of prompts': f'{row["inputs"]:.1%}',
        'of answers': f'{row["targets"]:.1%}',
        'unused image slots': f'{row["images"]:.1%}',
        'examples a row': f'{row["examples_per_row"]:.2f}',
      }
      for row in filter(None, [value.get('batches')])
    ],
    [
      {'answer': text, 'records': count, '': _bar(count, value['records'])}
      for text, count in value['answers']['commonest'].items()
    ],
  ]
  for rows in filter(None, tables):
    print('\n' + show.table(rows))
  print(f'{value["answers"]["different"]:,} different answers')
  return 0


def _lengths(args: argparse.Namespace) -> list[int]:
  """'512,128' -> [512, 128]. Raises UserError."""
  if args.lengths is None:
    return []
  if not args.vocabulary:
    raise UserError('--lengths are in tokens: give --vocabulary, too')
  parts = args.lengths.split(',')
  if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
    raise UserError(
      f'--lengths {args.lengths}: give those of prompt and answer, as 512,128'
    )
  return [int(p) for p in parts]


def _grouping(args: argparse.Namespace) -> tuple[FeatureSpec, Grouping]:
  """The lengths and the buckets of --buckets or --lengths. Raises UserError."""
  given = args.buckets or f'(({args.lengths}),)'
  try:
    buckets = list(ast.literal_eval(given))
    inputs, targets = (max(bucket[i] for bucket in buckets) for i in range(2))
  except (ValueError, SyntaxError, TypeError, IndexError) as error:
    raise UserError(
      f'--buckets {given}: give them as BUCKETS, such as '
      '"((128, 16, 1.5), (512, 64, 12))"; --pack alone needs --lengths'
    ) from error
  if args.rows < 1:
    raise UserError(f'--rows {args.rows}: give at least 1')
  found = make_grouping(
    buckets,
    args.pack,
    lengths=(inputs, targets),
    max_images=MAX_IMAGES,
    num_queries=QUERIES,
    rows=args.rows,
    groups=1,
  )
  assert found is not None
  return FeatureSpec(inputs, targets, MAX_IMAGES, 224, QUERIES), found


def _bar(count: int, total: int) -> str:
  return '█' * max(round(40 * count / total), 1)
