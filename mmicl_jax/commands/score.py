"""`mmicl score`: scores a file of answers as a benchmark's own program does."""

import argparse
import contextlib
import gc
import json
import os
import textwrap
from collections.abc import Iterator
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.predictions import read_predictions
from mmicl_jax.metrics.scorer import Scored
from mmicl_jax.metrics.table import MODULES, scorer_of
from mmicl_jax.runtime import files, show
from mmicl_jax.runtime.mirror import local_file, local_folder
from mmicl_jax.runtime.outputs import check_output

_NAMES = textwrap.fill(f'benchmarks: {", ".join(MODULES)}', 78)
EPILOG = f"""{_NAMES}

A line of FILE.jsonl is {{"id": "7", "output": "a red bus"}}, or
{{"id": "7", "scores": [-3.1, -0.2]}} where candidates are ranked.
docs/evaluation.md has each benchmark's files, ids, metrics and modes.

examples:
  mmicl score --benchmark mme --data MME --predictions answers.jsonl
  mmicl score --benchmark vqav2 --data VQA --predictions answers.jsonl \\
    --mode lavis --per_item items.jsonl --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--benchmark', required=True, metavar='NAME', help='see below')
  add(
    '--data',
    required=True,
    metavar='DIR',
    help='the official annotation files, under their official names',
  )
  add(
    '--predictions',
    required=True,
    metavar='FILE.jsonl',
    help='an answer, or the scores of the candidates, for each item',
  )
  add(
    '--mode',
    default='official',
    help="whose number: official (default), the benchmark's own; lmms-eval, "
    'vlmevalkit, lavis or mic',
  )
  add(
    '--per_item',
    metavar='FILE.jsonl',
    help="write each item's score, and what was understood of its answer",
  )
  add(
    '--allow_partial',
    action='store_true',
    help='leave items without a prediction out, and report the coverage',
  )
  add('--json', action='store_true', help='print JSON')
  parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
  scorer = scorer_of(args.benchmark)
  if args.mode not in scorer.modes:
    raise UserError(
      f'--mode {args.mode}: {scorer.name} has {", ".join(scorer.modes)}'
    )
  data = local_folder(args.data, _is_annotation)
  if not data.is_dir():
    raise UserError(f'--data {args.data} is no folder: name an existing one')
  if args.per_item is not None:
    read = [args.predictions, *filter(os.path.isfile, data.rglob('*'))]
    check_output(args.per_item, read, mark=b'{"id":')
  answers = local_file(args.predictions)
  kinds = scorer.modes[args.mode]
  with _without_collection():
    annotations = scorer.read(data)
    predictions = read_predictions(
      answers, annotations, kinds, args.allow_partial
    )
    scored = scorer.score(annotations, predictions, args.mode)
  result: dict[str, Any] = {
    'benchmark': scorer.name,
    'mode': args.mode,
    'items': len(predictions),
    'metrics': scored.metrics,
    'notes': scored.notes,
  }
  if args.allow_partial:
    result['coverage'] = len(predictions) / len(annotations.ids)
  _show(result, args, scored)
  return 0


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
  """Keeps Python from looking for garbage.

  Annotations are millions of objects and none of them is garbage; looking takes
  a third of the time.
  """
  before = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if before:
      gc.enable()


def _is_annotation(name: str) -> bool:
  """Of a bucket, images are not copied."""
  return name.endswith(('.json', '.jsonl', '.txt', '.csv', '.tsv'))


def _show(
  result: dict[str, Any], args: argparse.Namespace, scored: Scored
) -> None:
  """Writes the file of items first: what fails there leaves stdout empty."""
  show.json_text(result)  # raises for NaN before anything is written
  if args.per_item is not None:
    with files.writing(args.per_item) as file:
      file.writelines(f'{_line(item)}\n' for item in scored.per_item)
  if args.json:
    show.print_json(result)
    return
  print(f'{result["benchmark"]}, {result["mode"]}: {result["items"]} items')
  if args.allow_partial:
    print(f'coverage {show.percent(result["coverage"], 2)}')
  rows = [
    {'metric': name, 'value': f'{value:.4f}'}
    for name, value in scored.metrics.items()
  ]
  print(show.table(rows))
  for note in scored.notes:
    print(f'note: {note}')


def _line(item: dict[str, Any]) -> str:
  """An item as JSON; in ASCII if a character would end a line, or is half."""
  text = json.dumps(item, ensure_ascii=False, allow_nan=False)
  return text if text.isprintable() else json.dumps(item)
