"""Official trees in miniature: numbered pictures and videos, and their builds.

Every picture carries a number that survives JPEG, so that a test sees by its
content which file a record shows. Nothing here needs JAX.
"""

import dataclasses
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmicl_jax.__main__ import main

_BITS = 12
_FRAME_BITS = 8
FRAMES = 36  # of a video; at 12 a second it lasts three seconds
RATE = 12


def picture(
  number: int,
  kind: str = 'JPEG',
  mode: str = 'RGB',
  size: tuple[int, int] | None = None,
) -> bytes:
  """A small picture file that shows a number below 4096, as black and white
  cells at half its height; at another size, it may not be legible."""
  pixels = np.full((24, 4 * _BITS), 90, np.uint8)
  for i in range(_BITS):
    pixels[9:15, 4 * i : 4 * i + 4] = 255 * (number >> i & 1)
  file = io.BytesIO()
  options = {'quality': 95} if kind == 'JPEG' else {}
  image = Image.fromarray(pixels).convert(mode)
  image.resize(size or image.size).save(file, kind, **options)
  return file.getvalue()


def sized(png: bytes, side: int) -> bytes:
  """A PNG whose header says that both its sides are so long."""
  header = png[12:16] + struct.pack('>II', side, side) + png[24:29]
  return png[:12] + header + struct.pack('>I', zlib.crc32(header)) + png[33:]


def number_of(path: Path) -> int:
  """The number that a picture shows."""
  with Image.open(path) as image:
    pixels = np.asarray(image.convert('L'))
  height, width = pixels.shape
  row = pixels[int(height * 0.45) : int(height * 0.55)].mean(0)
  return _read(row, width, _BITS)


def video_file(
  path: Path, codec: str = 'mpeg4', frames: int = FRAMES, first: int = 0
) -> None:
  """Writes a video whose frames carry their numbers, from `first` on; its kind
  by its suffix."""
  av = pytest.importorskip('av', reason='videos need PyAV')
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=RATE)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    stream.bit_rate = 2_000_000
    for number in range(first, first + frames):
      pixels = np.full((48, 64, 3), 90, np.uint8)
      for i in range(_FRAME_BITS):
        pixels[4:20, 8 * i : 8 * i + 8] = 255 * (number >> i & 1)
      frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def frame_number_of(path: Path) -> int:
  """The number that a frame of a video shows."""
  with Image.open(path) as image:
    pixels = np.asarray(image.convert('L'))
  height, width = pixels.shape
  row = pixels[int(height * 0.15) : int(height * 0.35)].mean(0)
  return _read(row, width, _FRAME_BITS)


def _read(row: np.ndarray, width: int, bits: int) -> int:
  cells = [int((i + 0.5) * width / bits) for i in range(bits)]
  return sum(int(row[x] > 127) << i for i, x in enumerate(cells))


def write_tree(root: Path, files: dict[str, Any]) -> Path:
  """Writes files under their official names: bytes and texts as they are, lists
  and objects as JSON, or as JSON Lines if the name says so."""
  for name, value in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
      path.write_bytes(value)
    elif isinstance(value, str):
      path.write_bytes(value.encode())
    elif name.endswith('.jsonl'):
      lines = (json.dumps(row) + '\n' for row in value)
      path.write_text(''.join(lines), 'utf-8')
    else:
      path.write_text(json.dumps(value), 'utf-8')
  return root


@dataclasses.dataclass(frozen=True)
class Built:
  """A folder that `mmicl data build` wrote."""

  out: Path
  manifest: dict[str, Any]

  def records(self, split: str) -> list[dict[str, Any]]:
    text = (self.out / f'{split}.jsonl').read_text('utf-8')
    return [json.loads(line) for line in text.split('\n') if line]

  def ids(self, split: str) -> list[str]:
    """The official ids of a split's records, in order."""
    prefix = f'{self.manifest["dataset"]}/{split}/'
    return [record['id'].removeprefix(prefix) for record in self.records(split)]

  def one(self, split: str, number: str) -> dict[str, Any]:
    """The record with this official id."""
    wanted = f'{self.manifest["dataset"]}/{split}/{number}'
    [record] = [r for r in self.records(split) if r['id'] == wanted]
    return record

  def shown(self, record: dict[str, Any]) -> list[int]:
    """The numbers of a record's pictures, in order."""
    return [number_of(self.out / path) for path in record['input_image']]

  def own(self, record: dict[str, Any], count: int = 1) -> list[int]:
    """The numbers of the pictures of a record's query."""
    return self.shown(record)[-count:]

  def skipped(self, split: str) -> dict[str, list[str]]:
    """Of each reason the ids, after the counts were found to agree."""
    entry = self.manifest['splits'][split]
    skipped = entry['skipped']
    records = self.records(split)
    sources = {x for r in records for x in r['meta']['source_ids']}
    assert entry['written'] == len(records)
    assert entry['found'] == len(sources) + sum(map(len, skipped.values()))
    return skipped


def run_build(name: str, raw: Path, out: Path, *flags: str) -> int:
  """The exit status of `mmicl data build`."""
  argv = ['data', 'build', '--dataset', name, '--raw', str(raw)]
  return main([*argv, '--out', str(out), '--workers', '1', *flags])


def build_tree(name: str, raw: Path, *flags: str) -> Built:
  """Builds an official tree into a new folder beside it."""
  out = raw.parent / f'built{len(list(raw.parent.iterdir()))}'
  assert run_build(name, raw, out, *flags) == 0
  manifest = json.loads((out / 'manifest.json').read_text('utf-8'))
  assert manifest['complete'] is True
  return Built(out, manifest)


def refusal(
  name: str, raw: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> str:
  """What a build says that ends with exit status 2 and writes no record."""
  out = raw.parent / f'refused{len(list(raw.parent.iterdir()))}'
  capsys.readouterr()
  assert run_build(name, raw, out, *flags) == 2
  said = capsys.readouterr().err
  errors = [line for line in said.splitlines() if line.startswith('mmicl: ')]
  assert len(errors) == 1 and 'Traceback' not in said, said
  assert not list(out.glob('*.jsonl')), said
  return errors[0]
