"""`mmicl bench score`: how long scoring takes, beside the official program."""

import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.bench.score_data import write_captions, write_vqa
from mmicl_jax.errors import UserError

QUESTIONS = 214_354  # VQAv2's validation questions
IMAGES = 40_504  # COCO's validation images of 2014, with five captions each

# Its tokenizer in Java, and its CIDEr.
_OFFICIAL_CIDER = """
import json, sys
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
references, answers = {}, {}
for row in json.load(open(sys.argv[1]))['annotations']:
  references.setdefault(str(row['image_id']), []).append(row)
for row in map(json.loads, open(sys.argv[2])):
  answers[row['id']] = [{'caption': row['output']}]
tokens = PTBTokenizer()
references, answers = tokens.tokenize(references), tokens.tokenize(answers)
print(Cider().compute_score(references, answers)[0])
"""


def measure_scoring(
  rounds: int = 3, questions: int = QUESTIONS, images: int = IMAGES
) -> list[dict[str, Any]]:
  """A row for each case, in seconds of a whole process, from start to end.

  median, least, most: of the rounds. busy: the median of the seconds in which
  the process, its threads and children kept a core busy. The answers are made
  up, the same each time. METEOR is left out, and so is the official program
  where pycocoevalcap or Java is not installed.
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    vqa, captions = folder / 'vqa', folder / 'captions'
    write_vqa(vqa, questions)
    write_captions(captions, images)
    score = [sys.executable, '-m', 'mmicl_jax', 'score']
    cases = {
      'mmicl score --help': [*score, '--help'],
      f'VQAv2, {questions:,} questions': [*score, *_arguments('vqav2', vqa)],
      f'captions of {images:,} images, without METEOR': [
        *(*score, *_arguments('coco_caption', captions))
      ],
    }
    rows = [_row(name, argv, rounds) for name, argv in cases.items()]
    if importlib.util.find_spec('pycocoevalcap') and shutil.which('java'):
      files = captions / 'captions_val2014.json', captions / 'answers.jsonl'
      argv = [sys.executable, '-c', _OFFICIAL_CIDER, *map(str, files)]
      name = f'pycocoevalcap, {images:,} images, CIDEr alone'
      rows.append(_row(name, argv, rounds, java=True))
  return rows


def _arguments(benchmark: str, folder: Path) -> list[str]:
  answers = folder / 'answers.jsonl'
  argv = ['--benchmark', benchmark, '--data', folder, '--predictions', answers]
  return [*map(str, argv), '--json']


def _row(
  name: str, argv: Sequence[str], rounds: int, java: bool = False
) -> dict[str, Any]:
  taken = [_seconds(argv, java) for _ in range(rounds)]
  walls, busy = zip(*taken, strict=True)
  return {
    'what': name,
    'median': round(statistics.median(walls), 2),
    'least': round(min(walls), 2),
    'most': round(max(walls), 2),
    'busy': round(statistics.median(busy), 2),
  }


def _seconds(argv: Sequence[str], java: bool) -> tuple[float, float]:
  """Wall time and processor time of a process that ends well."""
  # Without a PATH there is no Java, hence no METEOR.
  environment = os.environ if java else os.environ | {'PATH': ''}
  before, begin = _busy(), time.monotonic()
  done = subprocess.run(argv, capture_output=True, env=environment)
  wall = time.monotonic() - begin
  if done.returncode:
    last = done.stderr.decode(errors='replace').strip().splitlines()[-1:]
    raise UserError(f'{" ".join(argv[:4])} failed: {"".join(last)}')
  return wall, _busy() - before


def _busy() -> float:
  """Seconds that children which have ended kept a core busy."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime
