"""Makes T5X's commands print a user's mistake as one sentence, and log less.

Importing this module turns it on, but only in `python -m t5x.train`, `t5x.eval`
and `t5x.infer`. gin_configs/t5x/model.gin imports it, so that mistakes in the
gin files read after it become sentences, too.
"""

import logging
import os
import sys
import traceback
from types import TracebackType

from absl import flags
from absl import logging as absl_logging
from gin import config as gin_config

from mmicl_jax.configure import gin_files, gin_types
from mmicl_jax.errors import UserError
from mmicl_jax.t5x import preprocessors

COMMANDS = ('t5x.train', 't5x.eval', 't5x.infer')
# The files whose log lines tell how a run goes: its phases, and clu's metrics.
# The other lines repeat the gin files (also in MODEL_DIR/config.gin) and the
# parameters' shapes (also in model-info.txt), or are Orbax's steps.
TOLD = ('train.py', 'trainer.py', 'eval.py', 'infer.py', 'logging_writer.py')


def excepthook(
  kind: type[BaseException],
  error: BaseException,
  trace: TracebackType | None,
) -> None:
  """Ends the process as `mmicl` does: a mistake is one sentence, status 2."""
  sentence = sentence_of(error)
  if sentence is None:
    sys.__excepthook__(kind, error, trace)
    return
  logging.disable()  # threads still end; the sentence must be the last line
  print(f'mmicl: {" ".join(sentence.split())}', file=sys.stderr, flush=True)
  sys.exit(2)  # Python exits with the status that a hook gives


def sentence_of(error: BaseException) -> str | None:
  """A user's mistake in one sentence; None for any other error."""
  if isinstance(error, UserError):
    return str(error).partition('\n  In call to configurable')[0]
  if isinstance(error, Exception) and _from_gin(error):
    if (name := _missing_file()) is not None:
      return f'the gin file {name} was not found'
    return str(gin_files.gin_explained(error))
  return preprocessors.record_sentence(error)


def check_gin(config: object = None) -> None:
  """Raises UserError for gin's files, names and values as `mmicl train` does.

  gin calls this after reading, before T5X builds anything. T5X itself accepts
  two stages, or --gin.TRAIN_STEPSS=9, without a word.
  """
  del config
  if flags.FLAGS.is_parsed():
    gin_files.check_files(flags.FLAGS.gin_file or ())
  gin_files.check_names()
  gin_files.check_required()
  gin_types.check_types()


def is_shown(record: logging.LogRecord) -> bool:
  """Whether a line is logged: warnings, files of TOLD; all at --verbosity=1."""
  if absl_logging.get_verbosity() >= absl_logging.DEBUG:
    return True
  if record.filename == 'resource_reader.py':  # gin looks for a file
    return False
  if record.exc_info and record.exc_info[1]:  # the hook prints it in the end
    return sentence_of(record.exc_info[1]) is None
  if record.funcName == 'write_texts':  # repeats the gin files
    return False
  # eval and infer have no optimizer; T5X warns about each of its arrays.
  if record.getMessage().startswith('Not restoring param=state/'):
    return False
  return record.levelno >= logging.WARNING or record.filename in TOLD


def _from_gin(error: Exception) -> bool:
  """Whether gin itself raised the error, while it read or evaluated a file."""
  files = [
    frame.f_code.co_filename
    for frame, _ in traceback.walk_tb(error.__traceback__)
  ]
  # An error from inside Python belongs to the file that called it.
  files = [file for file in files if not file.startswith('<frozen')]
  gin = os.path.dirname(gin_config.__file__)
  return bool(files) and os.path.dirname(files[-1]) == gin


def _missing_file() -> str | None:
  """The first --gin_file that does not exist, or None.

  gin itself raises a TypeError for `gin_configs/none.gin`, since it takes the
  folder for a Python package.
  """
  names = flags.FLAGS.gin_file if flags.FLAGS.is_parsed() else None
  for name in names or ():
    places = [os.path.join(p, name) for p in gin_config._LOCATION_PREFIXES]
    if not any(map(os.path.isfile, places)):
      return name
  return None


def _turn_on() -> None:
  sys.excepthook = excepthook
  # Before gin's own hooks, which name missing values less plainly.
  gin_config._FINALIZE_HOOKS.insert(0, check_gin)
  logging.getLogger('absl').addFilter(is_shown)


main = getattr(sys.modules['__main__'], '__spec__', None)
if getattr(main, 'name', None) in COMMANDS:
  _turn_on()
