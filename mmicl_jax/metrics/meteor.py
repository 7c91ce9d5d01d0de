"""METEOR 1.5, asked of its Java program, where that is installed.

No other form of it gives the same numbers: it needs a table of paraphrases. The
program is part of the package pycocoevalcap.
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

JAR = Path('meteor', 'meteor-1.5.jar')

# Of captions: the prediction, and its references; tokens joined with blanks. A
# token "|||", at which the program would split, does not exist.
CaptionSet = Sequence[tuple[str, Sequence[str]]]


def meteor_scores(sets: Sequence[CaptionSet]) -> list[float] | None:
  """The score of each set; None where Java or the program is missing.

  Raises OSError or ValueError if the program fails.
  """
  java, jar = shutil.which('java'), _jar()
  if java is None or jar is None:
    return None
  command = [java, '-jar', '-Xmx2G', jar.name]
  command += ['-', '-', '-stdio', '-l', 'en', '-norm']
  with subprocess.Popen(
    command,
    cwd=jar.parent,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    encoding='utf-8',
    errors='replace',
  ) as program:
    try:
      return [_score(program, captions) for captions in sets]
    finally:
      program.kill()


def _jar() -> Path | None:
  package = importlib.util.find_spec('pycocoevalcap')
  for folder in (package and package.submodule_search_locations) or ():
    if (path := Path(folder) / JAR).is_file():
      return path
  return None


def _score(program: subprocess.Popen[str], captions: CaptionSet) -> float:
  statistics = []
  for prediction, references in captions:
    _write(program, ' ||| '.join(['SCORE', *references, prediction]))
    statistics.append(_line_of(program))
  _write(program, ' ||| '.join(['EVAL', *statistics]))
  scores = [float(_line_of(program)) for _ in range(len(captions) + 1)]
  return scores[-1]  # those before are of single captions


def _write(program: subprocess.Popen[str], line: str) -> None:
  assert program.stdin is not None
  program.stdin.write(f'{line}\n')
  program.stdin.flush()


def _line_of(program: subprocess.Popen[str]) -> str:
  assert program.stdout is not None
  return program.stdout.readline().strip()
