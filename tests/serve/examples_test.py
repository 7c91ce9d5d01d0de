"""What the page is offered to begin with: records beside the checkpoint."""

import base64
import json

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mmicl_jax.data.images import to_png
from mmicl_jax.serve import examples

PICTURE = to_png(np.full((4, 4, 3), 200, np.uint8))


@pytest.fixture
def folder(tmp_path):
  """A demo's folder with held-out records of two kinds, and a checkpoint."""
  held_out = tmp_path / 'demo' / 'held_out'
  (held_out / 'images').mkdir(parents=True)
  (held_out / 'images' / 'a.png').write_bytes(PICTURE)
  (tmp_path / 'demo' / 'stage_2' / 'checkpoint_7').mkdir(parents=True)
  shown = 'image 0 is <image0>图.\nimage 0 is dax\n\n'
  asked = 'image 1 is <image1>图.\nimage 1 is'
  write(held_out, 'words', shown + asked, ['images/a.png'] * 2, 'wug')
  write(
    held_out, 'caption', 'caption of <image0>图:', ['images/a.png'], 'a dot'
  )
  return tmp_path / 'demo' / 'stage_2' / 'checkpoint_7'


def write(folder, kind, text, images, answer, **rest):
  record = {'input_text': text, 'input_image': images, 'output_text': answer}
  with open(folder / f'{kind}.jsonl', 'a', encoding='utf-8') as file:
    file.write(json.dumps({**record, **rest}) + '\n')


def shown(checkpoint):
  return examples.examples(examples.find(str(checkpoint)))


def offered(models):
  route = examples.examples_route(lambda: models)
  answer = TestClient(Starlette(routes=[route])).get(route.path)
  return answer.json()['examples']


def test_demonstrations_are_turns_of_their_own(folder):
  caption, words = shown(folder)
  assert (caption['id'], caption['kind']) == ('caption-0', 'caption')
  assert [turn['text'] for turn in words['turns']] == [
    'image {0} is {image}.\nimage {0} is'
  ] * 2
  assert [turn['answer'] for turn in words['turns']] == ['dax', 'wug']
  [image] = words['turns'][0]['images']
  assert image['name'] == 'a.png'
  head, data = image['data'].split(',')
  assert head == 'data:image/png;base64'
  assert base64.b64decode(data) == PICTURE


def test_records_that_cannot_be_shown_are_left_out(folder, monkeypatch):
  held_out = examples.find(str(folder))
  write(held_out, 'words', '<image0>图 is', ['images/none.png'], 'lost')
  write(held_out, 'words', '<image0>图 and <image1>图', ['images/a.png'], 'odd')
  write(
    held_out, 'words', 'what is <image0>图?', ['images/a.png'], 'x', id='last'
  )
  found = shown(folder)
  assert [one['id'] for one in found] == ['caption-0', 'words-0', 'last']
  monkeypatch.setattr(examples, 'MAX_IMAGE_BYTES', len(PICTURE) - 1)
  assert shown(folder) == []


def test_stages_of_one_run_have_the_same_examples(folder):
  other = folder.parent.parent / 'stage_1'
  other.mkdir()
  models = {'a': str(folder), 'b': str(other), 'c': 'gs://x/y'}
  expected = [{**one, 'models': ['a', 'b']} for one in shown(folder)]
  assert offered(models) == expected


def test_a_model_has_its_own_examples_only(folder, tmp_path):
  held_out = tmp_path / 'other' / 'held_out'
  (held_out / 'images').mkdir(parents=True)
  (held_out / 'images' / 'b.png').write_bytes(PICTURE)
  write(held_out, 'own', '<image0>图 is', ['images/b.png'], 'red')
  found = offered({'demo': str(folder), 'other': str(tmp_path / 'other')})
  assert [(one['kind'], one['models']) for one in found] == [
    ('caption', ['demo']),
    ('words', ['demo']),
    ('own', ['other']),
  ]


def test_without_such_a_folder_there_are_none(tmp_path):
  assert examples.find(str(tmp_path / 'model')) is None
