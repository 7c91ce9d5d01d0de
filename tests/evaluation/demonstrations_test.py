"""Demonstrations: drawn, fixed or retrieved, never the question itself."""

import json

import numpy as np
import pytest
from benchmark_trees import TREES
from official_trees import number_of, picture, write_tree

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation import demonstrations
from mmicl_jax.evaluation.declaration import load_benchmark
from mmicl_jax.evaluation.items import BUILT, IMAGES, pool_of, sources
from mmicl_jax.evaluation.questions import Variant, questions_of

WORDS = ('where is the dog', 'where is the cat', 'what colour is the sky')


def look(paths):
  """Pictures with near numbers are alike."""
  numbers = np.array([number_of(path) for path in paths], float) / 100
  return np.stack([np.cos(numbers), np.sin(numbers)], axis=1)


@pytest.fixture
def vqa(tmp_path):
  """Twelve questions: of train k asks WORDS[k % 3] about the picture 10 k."""
  raw = TREES['vqav2'](tmp_path / 'raw')
  files = {}
  for split, count in (('train', 11), ('val', 3)):
    place = f'{split}2014'
    asked, answered = [], []
    for k in range(1, count + 1):
      files[f'{place}/COCO_{place}_{k:012d}.jpg'] = picture(
        10 * k + (split == 'val')
      )
      asked.append({'image_id': k, 'question_id': k, 'question': WORDS[k % 3]})
      answered.append(
        {
          'image_id': k,
          'question_id': k,
          'answers': [{'answer': f'{split}{k}', 'answer_id': 1}] * 10,
        }
      )
    files[f'v2_OpenEnded_mscoco_{place}_questions.json'] = {'questions': asked}
    files[f'v2_mscoco_{place}_annotations.json'] = {'annotations': answered}
  write_tree(raw, files)

  def ask(source, shots, seed=0):
    benchmark = load_benchmark('vqav2')
    found = sources(benchmark, raw, tmp_path / 'out')
    return list(
      questions_of(
        benchmark, found, '{question}', Variant(shots, 0, seed), source
      )
    )

  ask.raw, ask.out = raw, tmp_path / 'out'
  return ask


def shown(questions):
  return [[int(name.rpartition('/')[2]) for name in q.shots] for q in questions]


def test_drawn_by_seed_from_train(vqa):
  drawn = demonstrations.Drawn()
  one, again, other = (vqa(drawn, 4, seed) for seed in (0, 0, 1))
  assert shown(one) == shown(again) != shown(other)
  assert all(len(set(own)) == 4 for own in shown(one))
  # Fewer demonstrations are the first of more.
  assert [own[:2] for own in shown(one)] == shown(vqa(drawn, 2))
  for question in one:
    assert all(name.startswith('vqav2/train/') for name in question.shots)
    answers = [shot.answer for shot in question.asks[0].shots]
    assert answers == [f'train{k}' for k in shown([question])[0]]


def test_retrieved_by_words_by_pictures_and_by_both(vqa):
  """The nearest stands last, beside the question."""
  words = demonstrations.Retrieved('question', look)
  for k, own in enumerate(shown(vqa(words, 3)), 1):
    assert all(i % 3 == k % 3 for i in own)
  alike = demonstrations.Retrieved('image', look)
  assert shown(vqa(alike, 2)) == [[2, 1], [3, 2], [4, 3]]


def test_by_both_words_decide_among_the_nearest_pictures(vqa, monkeypatch):
  monkeypatch.setattr(demonstrations, 'AMONG', 5)
  both = demonstrations.Retrieved('both', look)
  # Of the pictures 1 to 5, the first question's words are those of 1 and 4.
  assert shown(vqa(both, 2))[:2] == [[4, 1], [5, 2]]


def test_fixed_ones_are_those_of_a_file_in_its_order(vqa, tmp_path):
  records = [
    {
      'input_text': f'image 0 is <image0>图. is it {name}?',
      'input_image': [f'{name}.jpg'],
      'output_text': 'yes',
    }
    for name in ('a', 'b')
  ]
  write_tree(
    tmp_path,
    {'my.jsonl': records, 'a.jpg': picture(7), 'b.jpg': picture(8)},
  )
  source = demonstrations.shot_source(
    f'fixed:{tmp_path / "my.jsonl"}', look, vqa.out / BUILT / IMAGES
  )
  for question in vqa(source, 2):
    [ask] = question.asks
    assert 'is it a? yes\n\n' in ask.text('plain')
    paths = [vqa.out / BUILT / IMAGES / name for name in ask.images]
    assert [number_of(path) for path in paths[:2]] == [7, 8]
  with pytest.raises(UserError, match='has 2 records'):
    vqa(source, 3)


def test_none_shows_the_picture_of_the_question(vqa):
  """A picture of val that lies in train too, under another name."""
  same = vqa.raw / 'val2014/COCO_val2014_000000000001.jpg'
  other = vqa.raw / 'train2014/COCO_train2014_000000000005.jpg'
  other.write_bytes(same.read_bytes())
  first, *_ = shown(vqa(demonstrations.Drawn(), 11))
  assert sorted(first) == [k for k in range(1, 12) if k != 5]


def test_the_pool_is_the_split_of_the_declaration(vqa):
  [source] = sources(load_benchmark('vqav2'), vqa.raw, vqa.out)
  assert (source.split, pool_of(source).split) == ('val', 'train')


def test_own_demonstrations_are_taken(tmp_path):
  raw = TREES['vl_icl'](tmp_path / 'raw')
  benchmark = load_benchmark('vl_icl')
  found = sources(benchmark, raw, tmp_path / 'out')
  rows = json.loads((raw / 'open_mi/query.json').read_text())
  for source in (
    demonstrations.Drawn(),
    *(demonstrations.Retrieved(by, look) for by in ('image', 'both')),
  ):
    asked = questions_of(benchmark, found, '{question}', Variant(2), source)
    for question, row in zip(asked, rows, strict=True):
      answers = [shot.answer for shot in question.asks[0].shots]
      assert sorted(answers) == sorted(row['support'])
