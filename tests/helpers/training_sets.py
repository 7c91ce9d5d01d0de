"""Folders of sets that both stages train on, built from miniatures, and the
gin files of the two stages."""

import io
import json
import tarfile
from pathlib import Path

import tiny_records
from official_trees import picture, run_build, write_tree

from mmicl_jax import tokenizer

BUILT = ('flickr30k', 'llava', 'nlvr2', 'vqav2')  # of MIC's sixteen
PAIRS = ('cc3m', 'coco', 'sbu')  # of the six of stage 1

STAGE = """
include 'gin_configs/models/tiny.gin'
include 'gin_configs/stages/{stage}.gin'
include 'gin_configs/meshes/cpu.gin'
include 'gin_configs/data/{data}.gin'
from __gin__ import dynamic_registration
from mmicl_jax import presets

SETS_DIR = '{folder}/{sets}'
WITHOUT = {without}
VOCABULARY = '{folder}/spiece.model'
INPUTS_LENGTH = 160
TARGETS_LENGTH = 16
MAX_IMAGES = 6
TRAIN_STEPS = {steps}
SAVE_EVERY = {steps}
EVAL_EVERY = {steps}
EVAL_STEPS = 1
BATCH_SIZE = 4
LOSS_MEAN = 'microbatch'
SHUFFLE = False
INIT_FROM = {init_from!r}
presets.model.vocab_size = {vocab_size}
presets.model.image_token = {image_token}
"""


def write_sets(folder: Path) -> Path:
  """Builds four of MIC's sets in built/, three of stage 1 in pairs/."""
  raw = folder / 'raw'
  for name in BUILT:
    write_tree(raw / name, _TREES[name]())
    flags = ('--shots', '1')
    assert run_build(name, raw / name, folder / 'built' / name, *flags) == 0
  pairs = folder / 'pairs'
  write_tree(raw / 'coco', _coco())
  out = pairs / 'coco'
  assert run_build('coco_caption', raw / 'coco', out, '--shots', '0') == 0
  write_tree(
    pairs,
    {
      'sbu/list.tsv': 'a hat\thttp://x/0\na lost hat\thttp://x/1\n',
      'sbu/00000/000000000.jpg': picture(70),
    },
  )
  (pairs / 'cc3m').mkdir()
  for i in range(2):
    with tarfile.open(pairs / 'cc3m' / f'{i:05d}.tar', 'w') as tar:
      for suffix, data in (('jpg', picture(80 + i)), ('txt', b'a red kite')):
        info = tarfile.TarInfo(f'{i:09d}.{suffix}')
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
  words = [tiny_records.TEXT, 'a kite, a hat and a net: true or false? yes no']
  tokenizer.train_sentencepiece(words * 9, folder / 'spiece.model', 60)
  return folder


def stage_file(
  folder: Path, stage: str, steps: int = 2, init_from: Path | None = None
) -> Path:
  """The gin file of a stage, 'pretrain' or 'tune', for both trainers."""
  first = stage == 'pretrain'
  names = json.loads(
    (_ROOT / f'{"captions" if first else "mic"}.json').read_text()
  )['train']
  words = tokenizer.Tokenizer(folder / 'spiece.model')
  path = folder / f'{stage}.gin'
  path.write_text(
    STAGE.format(
      stage=stage,
      data='captions' if first else 'mic',
      folder=folder,
      sets='pairs' if first else 'built',
      without=sorted(set(names) - set(PAIRS if first else BUILT)),
      steps=steps,
      init_from=None if init_from is None else str(init_from),
      vocab_size=words.vocab_size,
      image_token=words.image_id,
    )
  )
  return path


_ROOT = Path(__file__).parents[2] / 'tasks' / 'mixtures'


def _flickr30k() -> dict:
  images = [
    {
      'sentids': [10 * i],
      'imgid': i,
      'sentences': [{'raw': f'A kite {i} .', 'imgid': i, 'sentid': 10 * i}],
      'split': 'val' if i == 5 else 'train',
      'filename': f'{i}.jpg',
    }
    for i in range(6)
  ]
  pictures = {f'flickr30k-images/{i}.jpg': picture(i) for i in range(6)}
  return {'dataset_flickr30k.json': {'images': images}, **pictures}


def _llava() -> dict:
  said = ['<image>\nWhat is it?', 'A kite.', 'And that?', 'A hat.']
  rows = [
    {
      'id': f'{i:012d}',
      'image': f'{i:012d}.jpg',
      'conversations': [
        {'from': ('human', 'gpt')[k % 2], 'value': text}
        for k, text in enumerate(said)
      ],
    }
    for i in range(2)
  ]
  pictures = {f'train2017/{i:012d}.jpg': picture(20 + i) for i in range(2)}
  return {'llava_instruct_150k.json': rows, **pictures}


def _nlvr2() -> dict:
  files = {}
  for split, count in (('train', 3), ('dev', 1)):
    lines = []
    for i in range(count):
      row = {
        'sentence': f'{i} kites are red.',
        'label': ('True', 'False')[i % 2],
        'identifier': f'{split}-{i}-0-0',
      }
      place = split
      if split == 'train':
        row['directory'], place = 7, f'images/{split}/7'
      lines.append(json.dumps(row) + '\n')
      for side in (0, 1):
        number = 30 + 10 * (split == 'dev') + 2 * i + side
        files[f'{place}/{split}-{i}-0-img{side}.png'] = picture(number)
    files[f'data/{split}.json'] = ''.join(lines)
  return files


def _vqav2() -> dict:
  files: dict = {}
  for place, first, count in (('train2014', 50, 4), ('val2014', 60, 2)):
    numbers = range(first, first + count)
    files[f'v2_OpenEnded_mscoco_{place}_questions.json'] = {
      'questions': [
        {'image_id': i, 'question': f'What is {i}?', 'question_id': 100 * i}
        for i in numbers
      ]
    }
    files[f'v2_mscoco_{place}_annotations.json'] = {
      'annotations': [
        {
          'answers': [{'answer': 'net'}] * 10,
          'image_id': i,
          'question_id': 100 * i,
          'answer_type': 'other',
          'question_type': 'what is',
          'multiple_choice_answer': 'net',
        }
        for i in numbers
      ]
    }
    for i in numbers:
      files[f'{place}/COCO_{place}_{i:012d}.jpg'] = picture(i)
  return files


def _coco() -> dict:
  images = [
    {'id': i, 'file_name': f'COCO_train2014_{i:012d}.jpg'} for i in range(3)
  ]
  captions = [
    {'id': i, 'image_id': i, 'caption': f'A red kite {i}.'} for i in range(3)
  ]
  pictures = {
    f'train2014/COCO_train2014_{i:012d}.jpg': picture(90 + i) for i in range(3)
  }
  value = {'images': images, 'annotations': captions}
  return {'annotations/captions_train2014.json': value, **pictures}


_TREES = {
  'flickr30k': _flickr30k,
  'llava': _llava,
  'nlvr2': _nlvr2,
  'vqav2': _vqav2,
}
