"""Pictures looked at by Apache Beam's workers, for `--engine beam`.

The work of a split is written to one file, a line for each part, and a worker
is told where its line begins: a pipeline that named a million pictures itself
would be larger than runners take. Workers read the official files and write
pictures and findings where this process would, so they must see the same disk.
"""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.data.build import video
from mmicl_jax.data.build.items import PictureRef
from mmicl_jax.data.build.looking import Findings, Job, look_at_part
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.jsonl import read_line
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import files


class OnBeam:
  """Does jobs in a pipeline. options: Beam's own, such as --runner=...

  Raises UserError without Beam, and for options that it does not take.
  """

  def __init__(self, options: Sequence[str]):
    try:
      import apache_beam
      from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
      raise UserError(
        "--engine beam needs Apache Beam: pip install 'mmicl_jax[beam]'"
      ) from error
    self._beam: Any = apache_beam
    try:
      self._options = PipelineOptions(list(options))
      apache_beam.Pipeline(options=self._options)  # finds the runner
    except (ValueError, SystemExit) as error:
      raise UserError(
        f'Apache Beam does not take {" ".join(options)}: {error}'
      ) from error

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Findings]:
    """What is found by each job, in order."""
    if not jobs:
      return
    beam = self._beam
    tree, folder, _, place = jobs[0]
    if any(x.frame for _, _, part, _ in jobs for group in part for x in group):
      video.pyav()  # here one sentence says what is missing
    work = place.parent / 'work.jsonl'
    starts = _write(work, jobs)
    with beam.Pipeline(options=self._options) as pipeline:
      _ = (
        pipeline
        | beam.Create(starts)
        | beam.Reshuffle()  # a runner may otherwise leave all to one worker
        | beam.Map(_look, *map(os.path.abspath, (work, folder)), _whole(tree))
      )
    for _, _, _, place in jobs:
      if not place.exists():
        raise UserError(
          f'{place}: the workers wrote it elsewhere: --raw and --out must be '
          'on a disk that all of them share'
        )
      yield json.loads(place.read_text('utf-8'))


def _whole(tree: Tree) -> Tree:
  """The tree for processes that run in other folders."""
  paths = map(os.path.abspath, (tree.root, tree.annotations))
  root, annotations = paths
  return Tree(root, tree.shape, annotations)


def _write(work: Path, jobs: Sequence[Job]) -> list[int]:
  """Writes a line for each job; returns where the lines begin, in bytes."""
  starts, end = [], 0
  with files.writing(work, 'wb') as file:
    for _, _, part, place in jobs:
      listed = [[_as_json(picture) for picture in group] for group in part]
      line = json.dumps([place.name, listed]).encode() + b'\n'
      file.write(line)
      starts.append(end)
      end += len(line)
  return starts


def _look(start: int, work: str, folder: str, tree: Tree) -> None:
  """Does the job whose line begins there; runs in a worker."""
  name, listed = json.loads(read_line(work, start))
  part = [[_picture(*values) for values in group] for group in listed]
  look_at_part((tree, Path(folder), part, Path(work).parent / name))


def _as_json(picture: PictureRef) -> list[Any]:
  data = picture.data and base64.b64encode(picture.data).decode()
  return [picture.path, picture.box, picture.frame, data]


def _picture(path: str, box: Any, frame: Any, data: str | None) -> PictureRef:
  return PictureRef(
    path,
    box and tuple(box),
    frame and tuple(frame),
    base64.b64decode(data) if data else None,
  )
