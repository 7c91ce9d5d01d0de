"""Writes files.tar.xz and expected.json, by the commit 7426302.

former_files_test.py reads them with the code of today. They are not made anew
when that changes: their worth is that the code of that commit wrote them, on
2026-11-25, on 2 cores of an x86-64 CPU (17 minutes beside other work). In a
clone of it that has this folder under its tests/:

  git checkout 7426302
  export JAX_PLATFORMS=cpu PYTHONPATH=tests
  python tests/former/make.py tests/former

It takes modules from where that commit had them, and runs with no other.
"""

import base64
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import sentencepiece
from former import small_model
from PIL import Image
from sentencepiece import sentencepiece_model_pb2
from tensorboard.backend.event_processing import event_accumulator

import mmicl_jax
from mmicl_jax.__main__ import main as mmicl

HERE = Path(__file__).resolve().parent
COLOURS = {
  'red': ((250, 10, 10), (190, 40, 20)),
  'green': ((10, 240, 20), (30, 170, 40)),
  'blue': ((10, 20, 250), (40, 30, 180)),
  'white': ((250, 250, 250), (220, 225, 230)),
}
TEXT = 'image 0 is <image0>图. What colour is image 0?'
RUN = ('--gin_file=runs/train.gin', '--gin_file=small.gin')
STAGE_1 = ('train', '--gin_file=stages/pretrain.gin', *RUN)
STAGE_2 = ('train', '--gin_file=stages/tune.gin', *RUN)
ANSWER = (
  *('generate', '--checkpoint', 'stage_1', '--input', 'train.jsonl'),
  *('--num_beams', '2', '--num_return_sequences', '2'),
  *('--max_new_tokens', '8'),
)


def run(*arguments: str) -> None:
  print('mmicl', *arguments, file=sys.stderr)
  assert mmicl(arguments) == 0


def write_records() -> None:
  """train.jsonl: six images; more.jsonl: one of them and two others."""
  lines = []
  for shade in (0, 1):
    for name, shades in COLOURS.items():
      file = io.BytesIO()
      Image.new('RGB', (16, 16), shades[shade]).save(file, 'PNG')
      record = {
        'id': f'{name}-{shade}',
        'input_text': TEXT,
        'input_image': [base64.b64encode(file.getvalue()).decode()],
        'output_text': name,
      }
      lines.append(json.dumps(record, ensure_ascii=False) + '\n')
  Path('train.jsonl').write_text(''.join(lines[:6]), 'utf-8')
  Path('more.jsonl').write_text(''.join(lines[5:]), 'utf-8')


def smaller(vocabulary: bytes) -> bytes:
  """A SentencePiece model that maps line ends, and not all of Unicode."""
  Path('map.tsv').write_text('9\t20\nA\t20\nA0\t20\n')
  other = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(['a b']),
    model_writer=other,
    model_type='char',
    vocab_size=6,
    normalization_rule_tsv='map.tsv',
    minloglevel=2,
  )
  read = sentencepiece_model_pb2.ModelProto.FromString
  model, normalizer = read(vocabulary), read(other.getvalue()).normalizer_spec
  model.normalizer_spec.precompiled_charsmap = normalizer.precompiled_charsmap
  return model.SerializeToString()


def write_vocabulary() -> None:
  tokenizer = importlib.import_module('mmicl_jax.tokenizer')
  path = Path('spiece.model')
  text = f'{TEXT} ' + ' '.join(COLOURS)
  tokenizer.train_sentencepiece([text] * 9, path, 60)
  path.write_bytes(smaller(path.read_bytes()))


def losses(model_dir: str) -> dict[int, float]:
  """Step -> loss, from the summaries that TensorBoard shows."""
  events = event_accumulator.EventAccumulator(model_dir).Reload()
  return {event.step: event.value for event in events.Scalars('loss')}


def lines(path: str) -> list[dict]:
  return [json.loads(x) for x in Path(path).read_text('utf-8').splitlines()]


def scores(model_dir: str) -> list[list[float]]:
  """Of the four colours as answers to the six records."""
  queries = [
    mmicl_jax.Example(x['input_text'], '', tuple(x['input_image']))
    for x in lines('train.jsonl')
  ]
  model = mmicl_jax.load(model_dir)
  return model.score(queries, list(COLOURS)).tolist()


def train() -> dict:
  """stage_1, stopped at 4 of 8 steps; returns what follows to the end."""
  # A stand-in for pre-trained towers, so that answers are colours.
  run(
    *STAGE_2,
    "--gin.MODEL_DIR='towers'",
    "--gin.TRAINABLE='all'",
    '--gin.TRAIN_STEPS=700',
    '--gin.SAVE_EVERY=700',
    '--gin.PEAK_RATE=3e-3',
    '--gin.LOG_EVERY=100',
    '--gin.DROPOUT=0.0',
  )
  first = (*STAGE_1, "--gin.MODEL_DIR='stage_1'", '--gin.TENSORBOARD=False')
  run(*first, '--gin.TRAIN_STEPS=4', "--gin.INIT_FROM='towers'")
  shutil.copytree('stage_1', 'to_the_end')
  run(*STAGE_1, "--gin.MODEL_DIR='to_the_end'", '--gin.TRAIN_STEPS=8')
  return {
    'losses': losses('to_the_end'),
    'scores': scores('to_the_end'),
    'scores_at_4': scores('stage_1'),
  }


def cache_features() -> dict:
  """features of train.jsonl; returns how stage 2 trains with them."""
  cache = ('--checkpoint', 'stage_1', '--out', 'features')
  run('data', 'cache-features', 'train.jsonl', *cache)
  run(
    *STAGE_2,
    "--gin.MODEL_DIR='stage_2'",
    '--gin.TRAIN_STEPS=4',
    "--gin.INIT_FROM='stage_1'",
    "--gin.FEATURE_CACHE='features'",
  )
  return {'losses': losses('stage_2')}


def answer() -> dict:
  """answers.jsonl, cut in the fourth line; returns all of its lines.

  That is what a run leaves that is killed while it writes.
  """
  run(*ANSWER, '--output', 'all.jsonl', '--cache_dir', 'visual_tokens')
  content = Path('all.jsonl').read_bytes()
  whole = content.splitlines(keepends=True)
  kept = len(b''.join(whole[:3])) + len(whole[3]) // 2
  Path('answers.jsonl').write_bytes(content[:kept])
  settings = {
    'checkpoint': str(Path('stage_1').resolve()),
    'shots': None,
    'style': 'plain',
    'dtype': None,
    'weights': None,
    'qformer_text': False,
    'max_input_length': 1024,
    **dataclasses.asdict(
      mmicl_jax.Options(
        num_beams=2, num_return_sequences=2, max_new_tokens=8, stop=[]
      )
    ),
  }
  text = json.dumps(settings, sort_keys=True, default=str)
  digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
  found = lines('all.jsonl')
  assert {line['settings'] for line in found} == {digest}
  settings['checkpoint'] = 'the absolute path of stage_1'
  return {'lines': found, 'settings': settings}


def demonstrate() -> dict:
  """A demo of a smaller model and less of everything; returns answers."""
  demo = importlib.import_module('mmicl_jax.demo.run')
  lessons = importlib.import_module('mmicl_jax.demo.lessons')
  find, held_out = importlib.util.find_spec, demo._held_out
  vocabulary = demo.data.demo_vocabulary
  importlib.util.find_spec = lambda x, *a: x != 'torch' and find(x, *a)
  demo.config = lambda _: small_model.model(
    'demo/spiece.model', 8, instruction=False, scan_layers=False
  )
  demo.data.demo_vocabulary = lambda seed: smaller(vocabulary(seed))
  digits = {'name_digit': 2, 'name_each': 1}
  demo.PHASES = tuple(
    dataclasses.replace(
      phase,
      lessons=(lessons.Lesson(steps, mix or phase.lessons[0].mix, 64, 5),),
      batch_size=16,
    )
    for phase, steps, mix in zip(
      demo.PHASES, (1500, 20, 20), (digits, digits, None), strict=True
    )
  )
  demo.OTHER_TASKS = ('caption', 'two_halves', 'larger')
  demo._held_out = lambda task, count, seed: held_out(task, 3, seed)
  run('demo', '--out', 'demo')
  file = 'demo/held_out/larger.jsonl'
  asked = ('--checkpoint', 'demo/stage_2', '--input', file)
  run('generate', *asked, '--output', 'larger.jsonl')
  return {'larger': lines('larger.jsonl')}


def kept() -> list[str]:
  """Files and folders that the test needs."""
  records = 'demo/held_out/larger.jsonl'
  results = json.loads(Path('demo/results.json').read_text('utf-8'))
  shown = [x for sample in results['samples'] for x in sample['images']]
  asked = [x for record in lines(records) for x in record['input_image']]
  return [
    *('train.jsonl', 'more.jsonl', 'spiece.model', 'stage_1', 'features'),
    *('answers.jsonl', 'visual_tokens', 'demo/results.json', records),
    *('demo/spiece.model', 'demo/stage_2'),
    *sorted(
      {f'demo/{image}' for image in shown}
      | {f'demo/held_out/{image}' for image in asked}
      | set(results['ask_command'].split(' --image ')[1].split())
    ),
  ]


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
  member.uid = member.gid = member.mtime = 0
  member.uname = member.gname = ''
  return member


def main(target: Path) -> None:
  target = target.absolute()
  with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    shutil.copyfile(HERE / 'small.gin', 'small.gin')
    write_records()
    write_vocabulary()
    expected = {
      'train': train(),
      'features': cache_features(),
      'answers': answer(),
      'demo': demonstrate(),
    }
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (target / 'expected.json').write_text(text + '\n', 'utf-8')
    with tarfile.open(target / 'files.tar.xz', 'w:xz', preset=9) as archive:
      for name in kept():
        archive.add(name, filter=anonymous)
    os.chdir(target)


if __name__ == '__main__':
  main(Path(sys.argv[1]))
