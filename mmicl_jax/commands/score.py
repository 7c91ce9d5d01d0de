"""`mmicl score`: scores a file of answers as a benchmark's own program does."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.predictions import read_predictions
from mmicl_jax.metrics.scorer import Scored
from mmicl_jax.metrics.table import MODULES, scorer_of

EPILOG = f"""benchmarks: {', '.join(MODULES)}

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
    type=Path,
    metavar='DIR',
    help='the official annotation files, under their official names',
  )
  add('--predictions', required=True, type=Path, metavar='FILE.jsonl')
  add(
    '--mode',
    default='official',
    help='official (default), lmms-eval, vlmevalkit, lavis or mic',
  )
  add(
    '--per_item',
    type=Path,
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
  if not args.data.is_dir():
    raise UserError(f'--data {args.data} is no folder: name an existing one')
  annotations = scorer.read(args.data)
  predictions = read_predictions(
    args.predictions, annotations, scorer.modes[args.mode], args.allow_partial
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


def _show(
  result: dict[str, Any], args: argparse.Namespace, scored: Scored
) -> None:
  """Writes the file of items first: what fails there leaves stdout empty."""
  from mmicl_jax.runtime import files, show

  show.json_text(result)  # raises for NaN before anything is written
  if args.per_item is not None:
    if args.per_item.exists() and os.path.samefile(
      args.per_item, args.predictions
    ):
      raise UserError(
        f'--per_item {args.per_item} is the file of predictions: name another'
      )
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
