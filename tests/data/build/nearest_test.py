import json

import pytest
from PIL import Image

from mmicl_jax.__main__ import main
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.nearest import Nearest

QUESTIONS = {
  'e': 'What colour is the zebra?',
  'a': 'What colour is the bus?',
  'c': 'How many zebra stripes?',
  'b': 'The bus is what colour?',
  'd': 'Who?',
}


def item(name, text):
  return SourceItem(name, name, {'question': text})


def test_rare_words_weigh_most_and_ids_break_ties():
  pool = [item(*pair) for pair in QUESTIONS.items()]
  nearest = Nearest([*pool, Skip('x', 'missing_file')])

  def order(text):
    return ''.join(found.id for found in nearest.order(item('q', text)))

  assert order('what colour is the bus') == 'abecd'
  assert order('zebra stripes') == 'ceabd'
  assert order('nothing alike') == 'abcde'


@pytest.mark.parametrize('workers', [1, 2])
def test_demonstrations_are_the_nearest(tmp_path, workers):
  raw = tmp_path / 'raw'
  raw.mkdir()
  rows = []
  for i, (name, question) in enumerate(sorted(QUESTIONS.items())):
    # b has the picture of a, and so is no demonstration of it.
    shade = 0 if name == 'b' else 40 * i
    Image.new('RGB', (5, 5), (shade, 0, 0)).save(raw / f'{name}.png')
    rows.append(
      {'id': name, 'q': question, 'a': f'of {name}', 'i': f'{name}.png'}
    )
  (raw / 'q.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  likest = {'a': 'e', 'b': 'e', 'c': 'e', 'e': 'a'}
  seen = set()
  for seed in range(6):
    out = tmp_path / f'{seed}'
    arguments = [
      *('data', 'build', '--dataset', 'csv', '--raw', raw / 'q.jsonl'),
      *('--out', out, '--question_column', 'q', '--answer_column', 'a'),
      *('--image_columns', 'i', '--id_column', 'id', '--shots', 1),
      *('--retrieve', 'question', '--seed', seed, '--workers', workers),
    ]
    assert main(list(map(str, arguments))) == 0
    for line in (out / 'train.jsonl').read_text('utf-8').splitlines():
      record = json.loads(line)
      name = record['id'].rpartition('/')[2]
      if record['meta']['shots'] and name in likest:
        assert record['meta']['shots'] == [f'csv/train/{likest[name]}']
        seen.add(name)
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['retrieve'] == 'question'
  assert seen == set(likest)
