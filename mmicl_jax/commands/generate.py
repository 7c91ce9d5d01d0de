"""`mmicl generate`: answers one prompt, or all records of a file."""

import argparse
import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import Any

from mmicl_jax.commands.model_arguments import (
  add_model_arguments,
  add_shard,
  load_predictor,
  parse_shard,
)
from mmicl_jax.context.turns import Turn
from mmicl_jax.data import records
from mmicl_jax.data.feature_store import key_of
from mmicl_jax.data.image_files import resolve
from mmicl_jax.decoding.options import BEAM_SEARCHES, Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.answer_file import WINDOW, AnswerFile
from mmicl_jax.inference.shards import shard_facts, sidecar
from mmicl_jax.runtime import files, remote, show
from mmicl_jax.runtime.lock import only_writer
from mmicl_jax.runtime.mirror import Mirror
from mmicl_jax.runtime.outputs import check_output, readable_twice

_HELP = {
  'num_beams': '1 is greedy, or one sample',
  'max_new_tokens': 'longest answer',
  'min_new_tokens': 'shortest answer',
  'length_penalty': 'scores are divided by length to this power',
  'early_stopping': 'end a search once it has as many answers as beams',
  'num_return_sequences': 'answers for each prompt',
  'do_sample': 'draw tokens at random instead of taking the likeliest',
  'temperature': 'of sampling',
  'top_k': 'sample among the likeliest; 0: among all',
  'top_p': 'sample among the likeliest with this probability together',
  'repetition_penalty': 'above 1: say less again',
  'no_repeat_ngram_size': 'never say so many tokens in a row twice',
  'stop': 'a text at which an answer ends; repeatable',
  'seed': 'of sampling; the same seed draws the same answers',
  'beam_search': 'of transformers 5, or of 4 as for the published numbers',
}

# The options that answer files of the former format have in their digest.
_FORMER_OPTIONS = (
  *('num_beams', 'max_new_tokens', 'min_new_tokens', 'length_penalty'),
  *('early_stopping', 'num_return_sequences', 'do_sample', 'temperature'),
  *('top_k', 'top_p', 'repetition_penalty', 'no_repeat_ngram_size', 'stop'),
  'seed',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--checkpoint', required=True, metavar='DIR', help='MODEL_DIR or PyTorch')
  add('--prompt', help='a question; {image} is the place of the next image')
  add('--image', nargs='+', default=[], metavar='PATH', help='its images')
  add('--input', metavar='FILE', help='records, one JSON object a line')
  add('--output', metavar='FILE', help='answers; what is there is kept')
  add('--shots', metavar='FILE', help='records to put in front of every query')
  add('--style', choices=('plain', 'chat'), default='plain')
  add('--data_dir', metavar='DIR', help='where image paths start')
  add('--skip_bad_records', action='store_true', help='note them and go on')
  add(
    '--overwrite',
    action='store_true',
    help='start anew; the old output stays until all is answered',
  )
  add_model_arguments(parser)
  add_shard(parser)
  add('--engine', choices=('ray',), help='answer --input on a Ray cluster')
  add('--actors', type=int, metavar='N', help='of Ray (as many as have room)')
  add(
    '--actor_needs',
    metavar='WHAT',
    help='of Ray, each: as in TPU=4 (a GPU, a host of TPUs, or a CPU)',
  )
  add('--stream', action='store_true', help='print the answer as it comes')
  add('--json', action='store_true', help='print JSON')
  group = parser.add_argument_group('how to answer, as in transformers')
  for field in dataclasses.fields(Options):
    _add_option(group, field.name, field.default)
  parser.epilog = """examples:
  mmicl generate --checkpoint runs/demo/stage_2 --image a.png b.png c.png \\
    --prompt '{image} {image} {image} which is like image {2}?'
  mmicl generate --checkpoint runs/demo/stage_2 --input test.jsonl \\
    --output answers.jsonl --num_beams 8
  mmicl generate --checkpoint checkpoints/mmicl_xxl --input test.jsonl \\
    --output answers.jsonl --weights int8 --mesh data=2,tensor=4 \\
    --cache_dir visual_tokens --compilation_cache compiled
  mmicl generate --checkpoint checkpoints/mmicl_xl --input test.jsonl \\
    --output answers.jsonl --engine ray --actors 4"""


def _add_option(group: Any, name: str, default: Any) -> None:
  settings: dict[str, Any] = {'help': _HELP[name], 'default': default}
  if name == 'stop':
    settings |= {'action': 'append', 'default': [], 'metavar': 'TEXT'}
  elif name == 'early_stopping':
    settings |= {'choices': ('true', 'false', 'never'), 'default': 'false'}
  elif name == 'beam_search':
    settings['choices'] = BEAM_SEARCHES
  elif isinstance(default, bool):
    settings['action'] = 'store_true'
  else:
    settings['type'] = type(default)
    settings['help'] += f' ({default})'
  group.add_argument(f'--{name}', **settings)


def main(args: argparse.Namespace) -> int:
  options = _options(args)
  if (args.prompt is None) == (args.input is None):
    raise UserError('give --prompt TEXT, or --input FILE with --output FILE.')
  _check_engine(args)
  shots = _shots(args)
  if args.input is not None:
    if args.image:
      raise UserError('--image belongs to --prompt; records name their images.')
    if args.output is None:
      raise UserError('--input needs --output FILE for the answers.')
    if args.stream:
      raise UserError('--stream belongs to --prompt: files are appended to.')
    return _answer_file(args, options, shots)
  if args.output is not None:
    raise UserError('--output belongs to --input; one answer is printed.')
  if args.stream and args.json:
    raise UserError('--stream prints text as it comes: leave out --json.')
  return _answer_one(args, options, shots)


def _answer_one(
  args: argparse.Namespace, options: Options, shots: list[Turn]
) -> int:
  root = args.data_dir or ''
  query = Turn(args.prompt, [resolve(image, root) for image in args.image])
  predictor = load_predictor(args)
  if args.stream:
    shown = 0
    settings = dataclasses.asdict(options)
    for text in predictor.stream(query, shots, style=args.style, **settings):
      print(text[shown:], end='', flush=True)
      shown = len(text)
    print()
    return 0
  prompt = predictor.prompt(query, shots, style=args.style)
  [answer] = predictor.answers([prompt], options)
  if args.json:
    show.print_json(dataclasses.asdict(answer), None)
  else:
    for each in (answer, *answer.others):
      print(each.text)
  return 0


def _answer_file(
  args: argparse.Namespace, options: Options, shots: list[Turn]
) -> int:
  check_output(args.output, (args.input, args.shots))
  shard = parse_shard(args.shard)
  sharded = shard[1] > 1
  piped = not remote.is_file(args.input)
  folder, name = os.path.split(remote.address(args.output))
  store = Mirror(folder)
  with only_writer(args.output), readable_twice(args.input) as source:
    job = AnswerFile(
      source=source,
      target=store.local / name,
      folder=store,
      name=args.input,
      # A pipe has no folder, so image paths begin in the working directory.
      data_dir=args.data_dir or (os.curdir if piped else None),
      options=options,
      shots=tuple(shots),
      style=args.style,
      skip_bad_records=args.skip_bad_records,
      overwrite=args.overwrite,
      settings=_settings(args, options, shots),
      block=WINDOW * args.batch_size if sharded or args.engine else None,
      shard=shard,
      former=_former_settings(args, options),
    )
    if sharded:
      told = shard_facts(shard, WINDOW * args.batch_size, job.count())
      files.write_json(sidecar(args.output), told)
    kept = job.check()  # before the model is loaded, so mistakes show at once
    if args.engine is None:
      summary = job.run(load_predictor(args), kept)
    else:
      from mmicl_jax.inference import on_ray

      needs = on_ray.parse_needs(args.actor_needs)
      load = functools.partial(load_predictor, args)
      ray = on_ray.OnRay(job, load, args.actors, needs)
      summary = job.run_elsewhere(ray, kept)
  if args.json:
    show.print_json(summary, None)
  else:
    kept = f', {summary["kept"]} were there' if summary['kept'] else ''
    bad = f', {summary["bad"]} bad records' if summary['bad'] else ''
    print(
      f'{args.output}: {summary["answered"]} answers written{kept}{bad}',
      file=sys.stderr,
    )
  return 0


def _check_engine(args: argparse.Namespace) -> None:
  if args.engine is None:
    if args.actors is not None or args.actor_needs is not None:
      raise UserError('--actors and --actor_needs belong to --engine ray.')
    return
  if args.input is None:
    raise UserError('--engine ray belongs to --input.')
  if args.shard is not None:
    raise UserError('--engine ray shares the work out: leave out --shard.')
  if args.actors is not None and args.actors < 1:
    raise UserError(f'--actors {args.actors}: give 1 or more.')
  if not (remote.is_remote(args.input) or os.path.isfile(args.input)):
    raise UserError(
      f'{args.input}: the actors of Ray read it, too: name a file.'
    )


def _settings(
  args: argparse.Namespace, options: Options, shots: list[Turn]
) -> dict[str, Any]:
  """What the answers depend on besides the records and the model."""
  return {
    'format': 2,
    'shots': [
      [shot.text, shot.answer, [key_of(i).decode() for i in shot.images]]
      for shot in shots
    ],
    'style': args.style,
    'qformer_text': args.qformer_text,
    'max_input_length': args.max_input_length,
    'data_dir': args.data_dir and remote.real_path(args.data_dir),
    **{
      field.name: getattr(options, field.name)
      for field in dataclasses.fields(options)
      if getattr(options, field.name) != field.default
    },
  }


def _former_settings(
  args: argparse.Namespace, options: Options
) -> dict[str, Any] | None:
  """The settings as files of the former format digest them.

  None if an option was given that the former format did not have.
  """
  if any(
    getattr(options, field.name) != field.default
    for field in dataclasses.fields(options)
    if field.name not in _FORMER_OPTIONS
  ):
    return None
  return {
    'checkpoint': str(Path(args.checkpoint).resolve()),
    'shots': args.shots,
    'style': args.style,
    'dtype': args.dtype,
    'weights': args.weights,
    'qformer_text': args.qformer_text,
    'max_input_length': args.max_input_length,
    **{name: getattr(options, name) for name in _FORMER_OPTIONS},
  }


def _options(args: argparse.Namespace) -> Options:
  values = {f.name: getattr(args, f.name) for f in dataclasses.fields(Options)}
  early = {'true': True, 'false': False, 'never': 'never'}
  values['early_stopping'] = early[values['early_stopping']]
  return Options(**values)


def _shots(args: argparse.Namespace) -> list[Turn]:
  if args.shots is None:
    return []
  found = records.read_records(args.shots, args.data_dir)
  return [records.turn_from_record(record) for record in found]
