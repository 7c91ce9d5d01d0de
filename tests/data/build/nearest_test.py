"""Demonstrations that are like the query, by words and by pictures."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_builds import built_plan

from mmicl_jax.__main__ import main
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.nearest import NearestWords, ranked
from mmicl_jax.data.build.own import OwnTable
from mmicl_jax.data.build.plan import Plan

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
  nearest = NearestWords([*pool, Skip('x', 'missing_file')])

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


class Brightness:
  """Vectors of pictures: the darker, the more to the one side."""

  name = 'brightness'

  def __call__(self, paths, folder):
    del folder
    found = []
    for path in paths:
      with Image.open(path) as image:
        angle = np.asarray(image)[..., 0].mean() / 255
      found.append([np.cos(angle), np.sin(angle)])
    return np.array(found)


def test_demonstrations_show_what_looks_alike(tmp_path):
  raw = tmp_path / 'raw'
  raw.mkdir()
  shades = {'a': 0, 'b': 10, 'c': 10, 'd': 30, 'e': 200}
  rows = []
  for name, shade in shades.items():
    picture = Image.new('RGB', (5, 5), (shade, ord(name), 0))
    picture.save(raw / f'{name}.png')
    rows.append({'id': name, 'q': 'What?', 'a': 'it', 'i': f'{name}.png'})
  rows += [
    {'id': 'f', 'q': 'Of nothing?', 'a': 'it', 'i': ''},
    {'id': 'g', 'q': 'What?', 'a': 'it', 'i': 'gone.png'},
  ]
  (raw / 'q.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  table = OwnTable(raw / 'q.jsonl', 'q', 'a', ('i',), id='id')
  orders = {
    'a': 'bcdef',
    'b': 'cadef',
    'c': 'badef',
    'd': 'bcaef',
    'e': 'dbcaf',
    'f': 'abcde',
  }
  longest = 0
  for seed in range(4):
    for limit in (None, 3):
      plan = Plan(
        table.dataset(), table.tree(None), tmp_path / f'{seed}{limit}',
        seed=seed, limit=limit, retrieve='image', vectors=Brightness(),
      )  # fmt: skip
      made = built_plan(plan)
      for record in made.records('train'):
        shown = ''.join(x[-1] for x in record['meta']['shots'])
        assert orders[record['id'][-1]].startswith(shown)
        longest = max(longest, len(shown))
      assert made.manifest['retrieve'] == 'image by brightness'
  assert longest == 5


def test_images_are_compared_by_a_model_only(tmp_path, capsys):
  argv = ['data', 'build', '--dataset', 'nlvr2', '--raw', str(tmp_path)]
  argv += ['--out', str(tmp_path / 'out'), '--retrieve', 'image']
  assert main(argv) == 2
  assert 'give --checkpoint' in capsys.readouterr().err


def test_many_are_put_in_order_as_few_are():
  scores = np.random.default_rng(0).integers(0, 40, 2000) / 40
  wanted = sorted(range(2000), key=lambda i: (-scores[i], i))
  assert list(ranked(scores)) == wanted
