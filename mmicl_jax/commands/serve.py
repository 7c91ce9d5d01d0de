"""`mmicl serve`: answers prompts over HTTP until it is told to stop."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mmicl_jax.commands.model_arguments import (
  add_model_arguments,
  load_predictor,
)
from mmicl_jax.errors import UserError

_SECONDS = ('request_timeout', 'body_timeout', 'shutdown_timeout')
_SIZES = {'max_body': 'MiB', 'max_image': 'MiB', 'max_pixels': 'pixels'}
_MIB = 1 << 20


class _AddModel(argparse.Action):
  """Collects (flag, value) of --checkpoint and of the names that follow it."""

  def __call__(self, parser, namespace, values, option_string=None) -> None:
    found = [*(getattr(namespace, 'models', None) or ())]
    found.append((self.dest, values))
    namespace.models = found
    setattr(namespace, self.dest, values)


class _WithDashes(argparse.ArgumentParser):
  """Adds the flags of other commands with dashes, as this one's are, too."""

  def __init__(self, parser: argparse.ArgumentParser):
    super().__init__(add_help=False)
    self._parser = parser

  def add_argument(self, *flags: str, **settings: Any) -> argparse.Action:
    both = (name for flag in flags for name in (flag.replace('_', '-'), flag))
    return self._parser.add_argument(*dict.fromkeys(both), **settings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    '--checkpoint',
    required=True,
    action=_AddModel,
    metavar='DIR',
    help='MODEL_DIR or PyTorch; repeatable, for several models',
  )
  add(
    '--served-model-name',
    action=_AddModel,
    metavar='NAME',
    help='what clients call the --checkpoint before it (its path); repeatable',
  )
  add('--host', default='127.0.0.1', help='where to listen (%(default)s)')
  add('--port', type=int, default=8000, help='(%(default)s); 0: any')
  add(
    '--api-key',
    action='append',
    default=[],
    metavar='KEY',
    help='wanted from clients; repeatable, or MMICL_API_KEY with commas',
  )
  add(
    '--allowed-host',
    action='append',
    default=[],
    metavar='NAME',
    help='of this server, in the header Host; repeatable; *: any',
  )
  add(
    '--cors-origin',
    action='append',
    default=[],
    metavar='ORIGIN',
    help='whose pages may ask, as in https://a.page; repeatable',
  )
  add(
    '--allow-media-domain',
    action='append',
    default=[],
    metavar='HOST',
    help='from which images may be fetched; repeatable; by default none',
  )
  add('--allow-http-media', action='store_true', help='also without TLS')
  add(
    '--max-queue',
    type=int,
    metavar='N',
    help='answers that may wait (4 for each that can be under way)',
  )
  add(
    '--max-tokens',
    type=int,
    default=64,
    metavar='N',
    help='the longest answer (%(default)s)',
  )
  add(
    '--beams',
    type=int,
    default=5,
    metavar='N',
    help='beam searches with so many beams are compiled before the start, too '
    '(%(default)s); 1: none',
  )
  add(
    '--max-body',
    type=float,
    default=64.0,
    metavar='MIB',
    help='the largest body of a request, in MiB (%(default)g)',
  )
  add(
    '--max-image',
    type=float,
    default=10.0,
    metavar='MIB',
    help='the largest file of an image, in MiB (%(default)g)',
  )
  add(
    '--max-pixels',
    type=int,
    default=40_000_000,
    metavar='N',
    help='of an image at most, by its header (%(default)s)',
  )
  add(
    '--request-timeout',
    type=float,
    default=120.0,
    metavar='S',
    help='seconds a request may wait in the queue (%(default)g)',
  )
  add(
    '--body-timeout',
    type=float,
    default=60.0,
    metavar='S',
    help='seconds until the body of a request has arrived (%(default)g)',
  )
  add(
    '--shutdown-timeout',
    type=float,
    default=30.0,
    metavar='S',
    help='seconds that answers under way have after SIGTERM (%(default)g)',
  )
  add(
    '--metrics-prefix',
    default='mmicl_',
    metavar='TEXT',
    help='of all metrics; vllm: for ready-made dashboards (%(default)s)',
  )
  add(
    '--metrics-port',
    type=int,
    metavar='PORT',
    help='for /metrics alone, without a key',
  )
  add('--log-prompts', action='store_true', help='log what clients ask')
  add_model_arguments(_WithDashes(parser))
  parser.epilog = """examples:
  mmicl serve --checkpoint runs/demo/stage_2
  mmicl serve --checkpoint checkpoints/mmicl_xl --served-model-name mmicl \\
    --host 0.0.0.0 --api-key $KEY --compilation-cache compiled
  mmicl serve --checkpoint a --served-model-name first \\
    --checkpoint b --served-model-name second"""


def main(args: argparse.Namespace) -> int:
  checkpoints = served_names(args.models)
  for name in _SECONDS:
    if not getattr(args, name) > 0:
      flag = name.replace('_', '-')
      raise UserError(f'--{flag} is {getattr(args, name):g}: give seconds.')
  for name, unit in _SIZES.items():
    size = getattr(args, name)
    if not 0 < size < float('inf'):
      flag = name.replace('_', '-')
      raise UserError(f'--{flag} is {size:g}: give {unit}, more than 0.')
  if args.max_queue is not None and args.max_queue < 0:
    raise UserError(f'--max-queue is {args.max_queue}: give 0 or more.')
  if not 1 <= args.beams <= 16:
    raise UserError(f'--beams is {args.beams}: give a number from 1 to 16.')
  try:
    from mmicl_jax.serve.run import serve_checkpoints
  except ImportError as error:
    raise UserError(
      f'`mmicl serve` needs the package {error.name}: pip install '
      "'mmicl_jax[serve]'."
    ) from error
  from mmicl_jax.serve.settings import Settings

  keys = [*args.api_key, *os.environ.get('MMICL_API_KEY', '').split(',')]
  settings = Settings(
    host=args.host,
    port=args.port,
    api_keys=tuple(key.strip() for key in keys if key.strip()),
    allowed_hosts=(args.host, *args.allowed_host),
    cors_origins=tuple(args.cors_origin),
    media_domains=tuple(args.allow_media_domain),
    http_media=args.allow_http_media,
    max_queue=args.max_queue,
    max_tokens=args.max_tokens,
    beams=args.beams,
    request_timeout=args.request_timeout,
    body_timeout=args.body_timeout,
    shutdown_timeout=args.shutdown_timeout,
    max_body=round(args.max_body * _MIB),
    max_image=round(args.max_image * _MIB),
    max_pixels=args.max_pixels,
    metrics_prefix=args.metrics_prefix,
    metrics_port=args.metrics_port,
    log_prompts=args.log_prompts,
  )

  def load(directory: str) -> Any:
    own = vars(args) | {'checkpoint': directory}
    return load_predictor(argparse.Namespace(**own))

  serve_checkpoints(settings, checkpoints, load)
  return 0


def served_names(models: Sequence[tuple[str, str]]) -> dict[str, str]:
  """{name: directory}; names belong to the checkpoint before them.

  Names before the first checkpoint belong to that one. Raises UserError for a
  name that stands for two models.
  """
  names: list[list[str]] = []
  directories: list[str] = []
  early: list[str] = []
  for flag, value in models:
    if flag == 'checkpoint':
      directories.append(value)
      names.append(early)
      early = []
    elif names:
      names[-1].append(value)
    else:
      early.append(value)
  found: dict[str, str] = {}
  for directory, own in zip(directories, names, strict=True):
    for name in own or [directory]:
      if name in found:
        raise UserError(
          f'--served-model-name {name} stands for two checkpoints: give each '
          'a name of its own.'
        )
      found[name] = directory
  return found
