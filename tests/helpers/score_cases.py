"""The recorded cases of the official scorers, and how one is run."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import build_deps

from mmicl_jax import __main__ as cli

SCORERS = build_deps.ROOT.parent / 'shared' / 'data' / 'scorers'
CASES = sorted(SCORERS.glob('*/contract/*'))


def case_of(folder):
  return json.loads((folder / 'case.json').read_text(encoding='utf-8'))


def expected_of(folder):
  return json.loads((folder / 'expected.json').read_text(encoding='utf-8'))


def data_of(folder, data):
  """Copies a case's annotation files into an empty folder."""
  for name, source in case_of(folder)['data'].items():
    target = data / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / source, target)
  return data


def run(*argv):
  """(exit status, stdout, stderr) of `mmicl score`."""
  out, err = io.StringIO(), io.StringIO()
  with redirect_stdout(out), redirect_stderr(err):
    status = cli.main(['score', *map(str, argv)])
  return status, out.getvalue(), err.getvalue()


def score(name, data, predictions, *more):
  """The printed JSON; `more` are further arguments."""
  status, out, err = run(
    *('--benchmark', name, '--data', data, '--predictions', predictions),
    *('--json', *more),
  )
  assert (status, err) == (0, ''), err
  return json.loads(out)


def items_of(path):
  lines = Path(path).read_text(encoding='utf-8').splitlines()
  return {item['id']: item for item in map(json.loads, lines)}
