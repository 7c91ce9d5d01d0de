"""The `mmicl` command: finds the module of a subcommand and runs it.

Each module of commands/ has `add_arguments(parser)` and `main(args) -> int`.
Only the chosen one is imported, so that `mmicl --help` starts at once and a
command loads only what it needs.
"""

import argparse
import contextlib
import importlib
import io
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import malloc

# Each is a module of commands/.
COMMANDS = {
  'demo': 'train a small model here and see it learn',
  'train': 'train from gin files',
  'eval': 'ask the questions of benchmarks, and score the answers',
  'explain': 'what the demonstrations did to the answers',
  'generate': 'answer one prompt or a file of prompts',
  'serve': 'answer over HTTP, as OpenAI clients expect',
  'score': 'score answers as a benchmark does',
  'merge': 'put the shards of generate or eval together',
  'convert': 'weights from PyTorch, and back',
  'data': 'check and look at MIC records',
  'compile': 'tell whether a run fits these TPUs, and what bounds it',
  'bench': 'measure training and generation',
  'env': 'versions, devices and settings, for an issue report',
}

# These run a model again and again, and may keep memory for that; the others
# use as little as they can.
COMPUTING = ('demo', 'train', 'eval', 'explain', 'generate', 'serve', 'bench')

# What a shell reports of a program that SIGPIPE ended, as of `yes | head`.
UNREAD = 141


class _Parser(argparse.ArgumentParser):
  """A parser that says in one line what is wrong with the arguments."""

  def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
    """After a help text; only a flush shows whether it was read."""
    _flush()
    super().exit(status, message)

  def error(self, message: str) -> NoReturn:
    command = self.prog.removesuffix(' ')
    print(f'mmicl: {message}; see {command} --help', file=sys.stderr)
    sys.exit(2)


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parses the arguments; `command` is None if there is none."""
  parser = _Parser(
    prog='mmicl', description='MMICL in JAX: train, ask, evaluate, convert.'
  )
  subparsers = parser.add_subparsers(dest='command', metavar='COMMAND')
  chosen = next((a for a in argv if not a.startswith('-')), None)
  for name, summary in COMMANDS.items():
    sub = subparsers.add_parser(
      name,
      help=summary,
      description=summary[0].upper() + summary[1:] + '.',
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if name == chosen:
      _module(name).add_arguments(sub)
    sub.add_argument(
      '--debug', action='store_true', help='show the traceback of an error'
    )
  args = parser.parse_args([_gin_binding(a) for a in argv])
  if args.command is None:
    parser.print_help()
  return args


def _module(command: str) -> Any:
  return importlib.import_module(f'mmicl_jax.commands.{command}')


def _gin_binding(argument: str) -> str:
  """Turns T5X's spelling --gin.NAME=VALUE into --gin_binding=NAME=VALUE."""
  if argument.startswith('--gin.'):
    return '--gin_binding=' + argument.removeprefix('--gin.')
  return argument


def _flush() -> None:
  if sys.stdout is not None:  # it is, where stdout was closed
    sys.stdout.flush()


def _is_unread(error: BaseException) -> bool:
  """Whether an error says that stdout's reader has gone, as in `| head`.

  A socket or a worker's pipe may break as well: that is told. Files are written
  before results are printed, so none is lost.
  """
  if not isinstance(error.__cause__ or error, BrokenPipeError):
    return False
  with contextlib.suppress(OSError, ValueError, AttributeError):
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = select.POLLERR | select.POLLHUP
    return any(events & gone for _, events in poll.poll(0))
  return False


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit status.

  0 is success; 2 is a user's mistake, told in one sentence on stderr; 141 says
  that nobody read stdout to its end, of which nothing is told.
  """
  alone = argv is None
  for stream in (sys.stdout, sys.stderr):
    # If a terminal cannot show a character (LC_ALL=C, cron), its number is
    # shown; an error would lose all other output.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')
  if argv is None:
    argv = sys.argv[1:]
    if argv and argv[0] in COMPUTING:
      malloc.restart_if_wanted()
  if '--debug' not in argv:
    # Orbax logs each error that it raises with a traceback, once in each
    # thread; asyncio logs further errors that nobody waits for.
    for name in ('absl', 'asyncio'):
      logging.getLogger(name).setLevel(logging.CRITICAL)
    if alone:
      # A failing save leaves behind threads of TensorStore, which print.
      sys.unraisablehook = lambda _: None
  try:
    args = parse(argv)
    status = 2 if args.command is None else _module(args.command).main(args)
    _flush()
    return status
  except (UserError, OSError) as error:
    if _is_unread(error):
      if alone:
        # Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return UNREAD
    if '--debug' in argv:
      raise
    if isinstance(error, OSError) and error.filename is not None:
      what = 'could not be used'
      error = explained(error, error.filename, 'check the path', what)
    from mmicl_jax.runtime.mirror import named

    print(f'mmicl: {named(" ".join(str(error).split()))}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('mmicl: stopped', file=sys.stderr, flush=True)
    if alone:
      # An interrupted save leaves threads that would wait for its end.
      os._exit(130)
    return 130


if __name__ == '__main__':
  sys.exit(main())
