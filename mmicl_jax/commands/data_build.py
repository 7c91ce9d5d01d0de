"""`mmicl data build`: official files of a dataset to MIC records."""

import argparse
import os
from pathlib import Path

from mmicl_jax.context.turns import STYLES
from mmicl_jax.data.build import on_beam, own, run, table
from mmicl_jax.data.build.plan import FORMATS, RETRIEVALS, Plan
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.lock import only_writer

EPILOG = """examples:
  mmicl data build --list
  mmicl data build --dataset nlvr2 --raw nlvr2 --out built/nlvr2 --workers 8
  mmicl data build --dataset csv --raw questions.csv --out built/mine \\
    --question_column question --answer_column answer --image_columns picture"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  parser.epilog = EPILOG
  add('--list', action='store_true', help='show all datasets, build nothing')
  add('--dataset', metavar='NAME', help='a name of --list')
  add('--raw', metavar='DIR', help='the official files, unpacked')
  add('--out', metavar='DIR', help='the folder to write')
  add('--splits', metavar='A,B', help='default: all that have answers')
  add('--shots', type=int, help='demonstrations at most; default: as --list')
  add('--seed', type=int, default=0, help='of all that is drawn (%(default)s)')
  add('--templates', metavar='FILE', help='forms of questions, as JSON')
  add('--style', choices=STYLES, default='plain', help='chat: User: and Bot:')
  add('--format', choices=FORMATS, default='jsonl')
  add('--workers', type=int, default=os.cpu_count() or 1, help='processes')
  add(
    '--engine',
    choices=('local', 'beam'),
    default='local',
    help='beam: Apache Beam looks at the pictures; its options follow --',
  )
  add('--limit', type=int, metavar='N', help='the first N records of a split')
  add(
    '--set',
    action='extend',
    nargs='+',
    default=[],
    metavar='KEY=VALUE',
    help='settings of the dataset, such as frames=12',
  )
  add(
    '--max_bad',
    type=float,
    default=0.5,
    help='the share of items that may be bad (%(default)s)',
  )
  add(
    '--retrieve',
    choices=RETRIEVALS,
    help='take the nearest demonstrations, by the words of the question or by '
    'what a model sees in the images',
  )
  add(
    '--checkpoint',
    metavar='DIR',
    help='--retrieve image: the model, MODEL_DIR or checkpoint_<step>',
  )
  add(
    '--feature_cache',
    metavar='DIR',
    help='--retrieve image: a folder of mmicl data cache-features, to read '
    'features from and to keep new ones in',
  )
  add('--overwrite', action='store_true', help='replace another build in OUT')
  add('--json', action='store_true', help='print JSON')
  add('beam_options', nargs='*', metavar='BEAM_OPTION', help='after --')
  mine = parser.add_argument_group("--dataset csv: one's own table")
  mine.add_argument('--question_column', metavar='NAME')
  mine.add_argument('--answer_column', metavar='NAME')
  mine.add_argument('--image_columns', metavar='A,B')
  mine.add_argument('--video_column', metavar='NAME')
  mine.add_argument(
    '--options_column', metavar='NAME', help='a JSON list, or a|b|c'
  )
  mine.add_argument('--id_column', metavar='NAME')
  mine.add_argument(
    '--group_column',
    metavar='NAME',
    help="rows of one group are never each other's demonstrations",
  )
  mine.add_argument(
    '--image_dir', metavar='DIR', help="default: the file's folder"
  )
  mine.add_argument('--split', default='train', help='its name (%(default)s)')
  mine.add_argument(
    '--template',
    action='extend',
    nargs='+',
    default=[],
    metavar='TEXT',
    help='forms with {image}, {question}, {options}',
  )


def main(args: argparse.Namespace) -> int:
  if args.list:
    rows = [dataset.listed() for dataset in table.DATASETS.values()]
    rows.append(own.LISTED)
    if args.json:
      show.print_json(rows)
    else:
      short = ('dataset', 'category', 'role', 'template', 'splits')
      print(show.table([{k: row[k] for k in short} for row in rows]))
      for row in rows:
        print(f'\n{row["dataset"]}')
        for name in ('tree', 'licence', 'source'):
          print(f'  {name}: {row[name]}')
      print('\nRAVEN IQ50 and Minecraft have no public files to build from.')
    return 0
  for name in ('dataset', 'raw', 'out'):
    if getattr(args, name) is None:
      raise UserError(f'--{name} is missing: see mmicl data build --help')
  if args.workers < 1:
    raise UserError(f'--workers {args.workers}: use at least 1 process')
  if args.beam_options and args.engine != 'beam':
    raise UserError(
      f'{" ".join(args.beam_options)}: options after -- are for --engine beam'
    )
  engine = None
  if args.engine == 'beam':
    engine = on_beam.OnBeam(args.beam_options)
  with only_writer(args.out):
    found = run.build(_plan(args), args.workers, args.overwrite, engine)
  if args.json:
    show.print_json(found)
    return 0
  rows = [
    {
      'split': split,
      'items': entry['found'],
      'records': entry['written'],
      'skipped': sum(map(len, entry['skipped'].values())),
    }
    for split, entry in found['splits'].items()
  ]
  print(show.table(rows))
  for split, entry in found['splits'].items():
    for reason, sources in entry['skipped'].items():
      print(f'{split}: {len(sources)} {reason}, the first is {sources[0]}')
  print(f'wrote {args.out}: {found["images"]["count"]:,} pictures')
  return 0


def _plan(args: argparse.Namespace) -> Plan:
  settings = {}
  for text in args.set:
    name, equals, value = text.partition('=')
    if not equals:
      raise UserError(f'--set {text}: write NAME=VALUE')
    settings[name] = value
  forms = None
  if args.dataset == 'csv':
    table_ = own.OwnTable(
      Path(args.raw),
      args.question_column,
      args.answer_column,
      tuple(_names(args.image_columns)),
      args.video_column,
      args.options_column,
      args.id_column,
      args.group_column,
      args.split,
    )
    dataset = table_.dataset()
    tree = table_.tree(args.image_dir)
    forms = tuple(args.template) or None
  else:
    dataset = table.dataset_of(args.dataset)
    tree = Tree(args.raw, dataset.shape)
  vectors = None
  if args.checkpoint is not None:
    from mmicl_jax.inference.feature_cache import PictureFeatures

    vectors = PictureFeatures(args.checkpoint, args.feature_cache)
  return Plan(
    dataset,
    tree,
    Path(args.out),
    splits=None if args.splits is None else tuple(_names(args.splits)),
    shots=args.shots,
    seed=args.seed,
    templates_path=args.templates,
    forms=forms,
    style=args.style,
    format=args.format,
    limit=args.limit,
    settings=settings,
    max_bad=args.max_bad,
    retrieve=args.retrieve,
    vectors=vectors,
  )


def _names(text: str | None) -> list[str]:
  return [name for name in (text or '').split(',') if name]
