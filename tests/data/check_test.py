import base64
import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mmicl_jax.data.check import problems
from mmicl_jax.data.records import Record, write_records


def bitmap(i):
  """A file of 0.3 MB, each of other bytes."""
  pixels = np.full((320, 320, 3), i, np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'BMP')
  return file.getvalue()


@pytest.mark.parametrize('form', ['bytes', 'data URL'])
def test_images_inside_records_are_not_kept(tmp_path, form):
  path = tmp_path / 'a.jsonl'
  count, size = 40, len(base64.b64encode(bitmap(0)))

  def image(i):
    url = f'data:;base64,{base64.b64encode(bitmap(i)).decode()}'
    return url if form == 'data URL' else bitmap(i)

  write_records(
    path, (Record('<image0>图', [image(i)], 'x') for i in range(count))
  )
  assert path.stat().st_size > count * size
  assert list(problems(str(path))) == [(i + 1, []) for i in range(count)]
  tracemalloc.start()
  for _ in problems(str(path)):
    pass
  kept, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert kept < size
  assert peak < 12 * size  # copies of one line: bytes, text, what it holds


def test_a_file_named_twice_is_opened_once(tmp_path, monkeypatch):
  opened = []
  monkeypatch.setattr(
    'mmicl_jax.data.check.load_image', lambda image, _: opened.append(image)
  )
  (tmp_path / 'a.png').write_bytes(bitmap(0))
  path = tmp_path / 'a.jsonl'
  write_records(path, [Record('<image0>图', ['a.png'], 'x')] * 3)
  assert len(list(problems(str(path), None, True))) == 3
  assert opened == [f'{tmp_path}/a.png']
