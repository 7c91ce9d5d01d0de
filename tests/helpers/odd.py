"""Odd input of many kinds, drawn at random, and what must be true of it.

Each kind is a function of a folder that prepares what its cases need, and
returns a function of a random generator that tries one of them: it returns
where the input is taken, and raises UserError where it is refused.
"""

import base64
import dataclasses
import io
import json
import math
import shutil

import numpy as np
import odd_settings
import tiny_dir
import tiny_records
from PIL import Image
from saved_runs import assert_equal, run_tree, save_run, shapes

import mmicl_jax
from mmicl_jax.checkpoints import checkpointer, faults, model_dir, store
from mmicl_jax.context.turns import Turn, assemble, turn_from_example
from mmicl_jax.convert.disk import to_pytorch
from mmicl_jax.convert.loading import find_checkpoint, open_checkpoint
from mmicl_jax.data import check, features, records
from mmicl_jax.data.images import load_image
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.errors import UserError

TEXTS = (
  *(
    '图',
    '<image0>',
    '<image1>图',
    '<image٣>',
    '{image}',
    '{0}',
    '{{0}}',
    '{1}',
  ),
  *(
    '',
    ' ',
    '\n',
    '\0',
    '\ud800',
    '👍🏽',
    'é',
    '＜unk＞',
    '</s>',
    '<pad>',
    '▁',
  ),
  *(
    'red',
    'What colour is image 0?',
    'a' * 300,
    '图' * 130,
    '\u202e',
    '\ufeff',
  ),
)
VALUES = (
  *(0, 1, -1, 2, 2**31, 2**63, 2**70, -(2**70), 0.5, -0.0, 1e400, math.nan),
  *(None, True, False, '', 'ten', '1', [], ['a'], {}, {'a': 1}, b'x', ()),
  *(np.int64(3), np.float32(0.5), np.nan, 1e-320, 1e30, object()),
)


def text(rng):
  return ''.join(rng.choices(TEXTS, k=rng.randint(0, 2)))


def damaged(rng, data: bytes) -> bytes:
  """Some bytes changed, cut, doubled or added."""
  data = bytearray(data)
  for _ in range(rng.choice((1, 1, 2, 8))):
    i = rng.randrange(len(data) + 1)
    j = min(len(data), i + rng.choice((1, 4, 64)))
    what = rng.randrange(6)
    if what == 0 and i < len(data):
      data[i] ^= 1 << rng.randrange(8)
    elif what == 1:
      del data[i:]
    elif what == 2:
      del data[i:j]
    elif what == 3:
      data[i:i] = data[i:j]
    elif what == 4:
      data[i:j] = rng.randbytes(j - i)
    else:
      data[i:i] = rng.choice((b'\0', b'"', b'{', b'\n', b'\xff', b'1e999'))
  return bytes(data)


def some_records(folder):
  tiny_records.write(folder, 7)
  tokenizer = mmicl_jax.Tokenizer(folder / 'spiece.model')
  spec = features.FeatureSpec(4096, 512, 128, 8, 2)
  image_id = tokenizer.image_id

  def row(record):
    return features.featurize(
      record.example, tokenizer, spec, on_truncation=lambda lost: None
    )

  def case(rng):
    value = {
      'input_text': 'image 0 is <image0>图. What colour is image 0?',
      'input_image': ['0.png'],
      'output_text': 'red',
    }
    for _ in range(rng.randint(0, 3)):
      key = rng.choice((*value, 'id', 'dataset', 'meta', 'other'))
      what = rng.randrange(5)
      if what == 0:
        value.pop(key, None)
      elif what == 1:
        value[key] = rng.choice(VALUES[:20])
      elif what == 2:
        value['input_image'] = rng.choices(
          ('0.png', '1.png', 'no.png', '', '.', '\0', 'data:,', 'A' * 2000),
          k=rng.randint(0, 3),
        )
      elif key in ('input_text', 'output_text', 'id'):
        value[key] = str(value.get(key, '')) + text(rng)
    line = json.dumps(value, default=str).encode('utf-8', 'surrogatepass')
    if rng.random() < 0.4:
      line = damaged(rng, line)
    line = line.replace(b'\n', b' ').replace(b'\r', b' ')
    path = folder / 'case.jsonl'
    path.write_bytes(line + b'\n')
    told = list(check.problems(str(path), open_images=True))
    if not line.strip(b' \t\xef\xbb\xbf\x0b\x0c'):
      return
    try:
      record = records.parse_record(line, 'f:1', str(folder))
      found = row(record)
    except UserError:
      assert any(texts for _, texts in told), 'data check says nothing'
      raise
    count = len(record.images)
    assert np.sum(found['encoder_input_tokens'] == image_id) == 2 * count
    again = records.parse_record(
      record.to_json().encode('utf-8', 'surrogatepass'), 'f:1', str(folder)
    )
    assert again == record
    for name, array in row(again).items():
      np.testing.assert_array_equal(array, found[name], err_msg=name)

  return case


def prompts(folder):
  tiny_records.write(folder, 1)
  tokenizer = mmicl_jax.Tokenizer(folder / 'spiece.model')

  def turn(rng):
    images = [f'{i}.png' for i in range(rng.choice((0, 1, 1, 2, 40)))]
    return Turn(text(rng), images, text(rng) if rng.random() < 0.7 else '')

  def case(rng):
    shots = [turn(rng) for _ in range(rng.randint(0, 2))]
    style = rng.choice(('plain', 'plain', 'chat'))
    found = assemble(turn(rng), shots, style=style)
    ids = tokenizer.encode(found.inputs)
    assert ids.count(tokenizer.image_id) == len(found.images)
    again = assemble(turn_from_example(found))
    assert again.inputs == found.inputs and again.images == found.images
    assert tokenizer.encode(again.inputs) == ids

  return case


def options(folder):
  names = [field.name for field in dataclasses.fields(Options)]
  likely = {
    'early_stopping': (True, False, 'never'),
    'do_sample': (True, False),
    'stop': ('x', ('a', 'b'), ['c'], ()),
    'beam_search': ('transformers4', 'transformers5'),
    'top_p': (0.5, 1, np.float32(0.9)),
  }

  def case(rng):
    given = {}
    for name in rng.sample(names, rng.randint(1, 5)):
      few = likely.get(name, (1, 2, 4, 7, np.int64(3)))
      given[name] = rng.choice(few if rng.random() < 0.8 else VALUES)
    found = Options(**given)
    assert Options(**dataclasses.asdict(found)) == found
    static, dynamic = split_options(found)
    assert static.rows >= found.num_return_sequences
    hash(static)
    assert all(np.isfinite(np.float32(x)) for x in dynamic)
    json.dumps(dataclasses.asdict(found), allow_nan=False)

  return case


def images(folder):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (9, 7, 4), np.uint8)
  files = []
  for kind, modes in {
    'PNG': ('RGB', 'RGBA', 'L', 'P', '1', 'LA', 'I;16'),
    'JPEG': ('RGB', 'L', 'CMYK'),
    'GIF': ('P', 'L'),
    'BMP': ('RGB', 'P', '1'),
    'TIFF': ('RGB', 'RGBA', 'F', 'I;16', 'CMYK', 'LAB'),
    'PPM': ('RGB', 'L', '1'),
    'WEBP': ('RGB', 'RGBA'),
    'JPEG2000': ('RGB', 'L'),
  }.items():
    for mode in modes:
      picture = Image.fromarray(pixels)
      if mode == 'I;16':
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
      elif mode == 'LAB':
        picture = Image.frombytes('LAB', (7, 9), pixels[..., :3].tobytes())
      elif mode == 'F':
        picture = Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
      elif mode != 'RGBA':
        picture = picture.convert('RGB').convert(mode)
      file = io.BytesIO()
      picture.save(file, kind)
      files.append(file.getvalue())

  def case(rng):
    data = rng.choice(files)
    if rng.random() < 0.9:
      data = damaged(rng, data)
    found = load_image(data, 8)
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8
    coded = base64.b64encode(data).decode()
    np.testing.assert_array_equal(load_image(f'data:;base64,{coded}', 8), found)
    path = folder / 'case'
    path.write_bytes(data)
    np.testing.assert_array_equal(load_image(path, 8), found)

  return case


def checkpoints(folder):
  """Runs, weights with their configuration and vocabulary, PyTorch folders."""
  faults.PAUSES = (0.0,)  # what is damaged here does not mend itself
  save_run(folder / 'run', 5, 10)
  (folder / 'model').mkdir()
  tiny_dir.make(folder / 'model')
  to_pytorch(folder / 'model', folder / 'hf')
  weights = store.load_weights(folder / 'model')
  like = shapes(run_tree(0))

  def run(place):
    step, state, position = checkpointer.Checkpointer(place).restore_latest(
      like
    )
    assert_equal(state, run_tree(step, scale=step))
    assert position == {'position': step}

  def model(place):
    assert_equal(store.load_weights(place), weights)
    model_dir.read_config(place)
    mmicl_jax.Tokenizer(place / model_dir.VOCABULARY).encode('the red dog')

  def pytorch(place):
    opened = open_checkpoint(find_checkpoint(place))
    for name in list(opened.shapes)[:4]:
      opened.read(name)

  def case(rng):
    name, read = rng.choice((('run', run), ('model', model), ('hf', pytorch)))
    place = folder / 'case'
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / name, place)
    files = sorted(path for path in place.rglob('*') if path.is_file())
    path = rng.choice(files)
    what = rng.random()
    if what < 0.7:
      path.write_bytes(damaged(rng, path.read_bytes()))
    elif what < 0.8:
      path.write_bytes(rng.choice(files).read_bytes())
    elif what < 0.9:
      path.unlink()
    else:
      path.unlink()
      path.mkdir()
    read(place)

  return case


KINDS = {
  'records': some_records,
  'prompts': prompts,
  'options': options,
  'images': images,
  'checkpoints': checkpoints,
  'train': odd_settings.train,
  'commands': odd_settings.commands,
}
