"""Examples for the page: held-out records that lie beside a checkpoint.

`mmicl demo` writes DEMO/held_out/*.jsonl beside DEMO/stage_2, one file a kind.
The page shows a few of each; they come as turns, so that the page can put
demonstrations on cards of their own.
"""

import base64
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mmicl_jax.context.turns import Turn
from mmicl_jax.data.image_files import read_image_file
from mmicl_jax.data.records import Record, read_records, turn_from_record
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.split_prompt import split_prompt

FOLDER = 'held_out'
UPWARD = 3  # MODEL_DIR/checkpoint_N/... lies so far below the demo's folder
PER_KIND = 6
MAX_KINDS = 20
MAX_IMAGE_BYTES = 1 << 18  # of each image: the page loads them all at once

_KINDS = {b'\x89PNG': 'png', b'\xff\xd8\xff': 'jpeg', b'RIFF': 'webp'}


def examples_route(checkpoints: Callable[[], Mapping[str, str]]) -> Route:
  """The route that hands the page the examples of the served checkpoints.

  checkpoints: by the names of the models. Each example has the `models` that it
  is one of.
  """

  def send(request: Request) -> Response:  # in a thread: it reads files
    headers = {'cache-control': 'no-cache'}
    # Stages of one run lie beside the same folder.
    models: dict[Path, list[str]] = {}
    for name, checkpoint in checkpoints().items():
      folder = find(checkpoint)
      if folder is not None:
        models.setdefault(folder, []).append(name)
    found = [
      {**one, 'models': names}
      for folder, names in models.items()
      for one in examples(folder)
    ]
    return JSONResponse({'examples': found}, headers=headers)

  return Route('/page/examples.json', send)


def examples(folder: Path) -> list[dict[str, Any]]:
  """A few records of each kind, as {id, kind, style, turns}.

  A turn has a text with slots as in `context.turns.Turn`, its images as {name,
  data}, where data is a data URL, and an answer. A record whose demonstrations
  cannot be told apart is one turn; one that cannot be read is left out.
  """
  files = sorted(folder.glob('*.jsonl'))[:MAX_KINDS]
  return [one for file in files for one in _of_file(file)]


def find(checkpoint: str) -> Path | None:
  """The folder held_out/ in the checkpoint's folder or one of those above."""
  place = Path(checkpoint).absolute()
  for parent in (place, *itertools.islice(place.parents, UPWARD)):
    if (parent / FOLDER).is_dir():
      return parent / FOLDER
  return None


def _of_file(path: Path) -> list[dict[str, Any]]:
  records = read_records(path, on_error=lambda error: None)
  found = []
  for record in itertools.islice(records, PER_KIND):
    try:
      found.append(_example(record, path.stem, len(found)))
    except UserError:
      continue
  return found


def _example(record: Record, kind: str, index: int) -> dict[str, Any]:
  try:
    split = split_prompt(record)
    turns, style = split.turns, split.style
  except UserError:
    turns, style = (turn_from_record(record),), 'plain'
  name = f'{kind}-{index}' if record.id is None else str(record.id)
  shown = [_turn(turn) for turn in turns]
  return {'id': name, 'kind': kind, 'style': style, 'turns': shown}


def _turn(turn: Turn) -> dict[str, Any]:
  images = [_named(image) for image in turn.images]
  return {'text': turn.text, 'images': images, 'answer': turn.answer}


def _named(source: Any) -> dict[str, str]:
  data, name = read_image_file(source)
  kind = next((k for start, k in _KINDS.items() if data.startswith(start)), '')
  if not kind or len(data) > MAX_IMAGE_BYTES:
    raise UserError(f'{name} is too large, or no PNG, JPEG or WebP file.')
  url = f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
  return {'name': Path(name).name, 'data': url}
