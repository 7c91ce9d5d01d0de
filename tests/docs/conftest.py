"""A folder in which the blocks of the docs find what they name."""

import itertools
import re
import shutil

import doc_pages
import openai
import pytest
import served_model
import tiny_dir
import tiny_records

import mmicl_jax

# With these words in its vocabulary the prompts of the pages are short.
TEXTS = ['image 0 is a dax', 'which is like image 1? same? wug'] * 9


@pytest.fixture(scope='session')
def world(tmp_path_factory):
  """Models, pictures and records under the names that the docs give them."""
  folder = tmp_path_factory.mktemp('world')
  for name in ('checkpoints/mmicl_xl', 'runs/demo/held_out', 'eval_tool/LaVIN'):
    (folder / name).mkdir(parents=True)
  tiny_dir.make(folder / 'checkpoints/mmicl_xl', texts=TEXTS)
  demo = folder / 'runs/demo'
  shutil.copytree(folder / 'checkpoints/mmicl_xl', demo / 'stage_2')
  records = tiny_records.write(demo / 'held_out', 4) / 'train.jsonl'
  records.rename(demo / 'held_out/which.jsonl')
  pictures = [demo / 'held_out' / f'{i}.png' for i in range(3)]
  for picture, name in zip(pictures, 'abc', strict=True):
    shutil.copy(picture, folder / f'{name}.png')
  (demo / 'images').mkdir()
  text = ''.join(page.read_text('utf-8') for page in doc_pages.pages())
  named = set(re.findall(r'\bglyph-\w+-\d+-\d+\.png', text))
  named |= {f'glyph-{x}.png' for x in re.findall(r"'(\w+-\d+-\d+)'", text)}
  for picture, name in zip(itertools.cycle(pictures), sorted(named)):
    shutil.copy(picture, demo / 'images' / name)
  rows = 'a.jpg\tIs it red?\tYes\tYes.\na.jpg\tIs it blue?\tNo\tNo.\n'
  (folder / 'eval_tool/LaVIN/color.txt').write_text(rows, 'utf-8')
  return folder


@pytest.fixture
def openai_client(world, request, monkeypatch):
  """The openai module, whose clients ask a server of the tiny model."""
  client = request.getfixturevalue('docs_server').client
  monkeypatch.setattr(openai, 'OpenAI', lambda **_: client)
  return openai


@pytest.fixture(scope='session')
def docs_server(world):
  model = world / 'checkpoints/mmicl_xl'
  predictor = mmicl_jax.load(model, max_input_length=served_model.LENGTH)
  with served_model.serving(predictor, name='mmicl') as found:
    yield found
