"""TensorBoard reads what a run writes; TensorFlow stays out."""

import glob
import io
import subprocess
import sys

import pytest
from PIL import Image

from mmicl_jax.errors import UserError
from mmicl_jax.training.tensorboard import Summaries


def test_summaries_are_what_tensorboard_reads(tmp_path):
  loader = pytest.importorskip(
    'tensorboard.backend.event_processing.event_file_loader'
  )
  summaries = Summaries(tmp_path)
  summaries.write(5, {'loss': 1.5})
  summaries.close()
  (path,) = glob.glob(str(tmp_path / 'events*'))
  version, event = loader.EventFileLoader(path).Load()
  assert version.file_version == 'brain.Event:2'
  assert event.step == 5 and event.summary.value[0].tag == 'loss'


def test_prompts_are_texts_and_images(tmp_path):
  accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  file = io.BytesIO()
  Image.new('RGB', (6, 4), 'red').save(file, 'PNG')
  summaries = Summaries(tmp_path)
  summaries.show(1, [('what is it?', file.getvalue()), ('and this?', None)])
  summaries.close()
  events = accumulator.EventAccumulator(str(tmp_path)).Reload()
  assert events.Tags()['images'] == ['prompts/0/image']
  (image,) = events.Images('prompts/0/image')
  assert (image.width, image.height) == (6, 4)
  assert image.encoded_image_string == file.getvalue()
  assert events.Tags()['tensors'] == ['prompts/0/text', 'prompts/1/text']
  (text,) = events.Tensors('prompts/1/text')
  assert text.tensor_proto.string_val == [b'and this?']
  assert events.SummaryMetadata('prompts/0/text').plugin_data.plugin_name == (
    'text'
  )


def test_neither_training_nor_summaries_load_tensorflow(tmp_path):
  code = (
    'import sys; from mmicl_jax.data import loader;'
    'from mmicl_jax.training import loop, tensorboard;'
    f'tensorboard.Summaries({str(tmp_path)!r}).write(1, {{"a": 1.0}});'
    'print([m for m in ("tensorflow", "torch", "t5x") if m in sys.modules])'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert run.stdout.strip() == '[]', run.stderr


def test_a_full_disk_is_named(tmp_path):
  pytest.importorskip('tensorboard')
  resource = pytest.importorskip('resource')
  summaries = Summaries(tmp_path)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  try:
    with pytest.raises(UserError, match='events.* could not be written'):
      summaries.show(1, [('a' * 9000, None)])
    summaries.close()  # at the end of the run, which must not hide the error
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
