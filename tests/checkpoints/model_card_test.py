"""Cards of models: metadata that the Hub reads, and files that are left."""

import dataclasses
import json
import re

import pytest
import yaml

from mmicl_jax.checkpoints import model_card, model_dir
from mmicl_jax.commands.train import leave_card
from mmicl_jax.models import configs

GIN = """# Macros:
# ====
BATCH_SIZE = 64
DATA = 'train.jsonl'
INIT_FROM = \\
    'checkpoints/instructblip_xl'
MESH = @partitioning.make_mesh()
TRAIN_STEPS = 1000

# Parameters for loop.train:
loop.train.run = @settings.RunSettings()
"""
LEDGER = {
  'profile': 'tune',
  'trainable': {'parameters': 605_600_000},
  'frozen': {'parameters': 3_400_000_000},
}


@pytest.fixture
def run(tmp_path):
  folder = tmp_path / 'my-model'
  reader = dataclasses.replace(configs.TINY.qformer, instruction=False)
  config = dataclasses.replace(configs.TINY, qformer=reader)
  model_dir.write_config(folder, config)
  (folder / model_dir.GIN).write_text(GIN)
  (folder / model_dir.LEDGER).write_text(json.dumps(LEDGER))
  return folder


def metadata(text):
  """The YAML in front of a card."""
  return yaml.safe_load(re.match(r'---\n(.*?)\n---\n', text, re.S)[1])


def test_a_card_says_how_the_model_was_made(run, tmp_path):
  assert model_card.write_card(run, run, 800, pytorch=False, records=1234)
  text = (run / 'README.md').read_text()
  found = metadata(text)
  assert found['license'] is None  # nobody may guess it
  assert found['library_name'] == 'mmicl_jax'
  assert found['pipeline_tag'] == 'image-text-to-text'
  for line in (
    '# my-model',
    '| steps | 800 of 1,000 |',
    '| parameters | 4,005,600,000 |',
    '| trained | 605,600,000 of them: `tune` |',
    '| made from | `checkpoints/instructblip_xl` |',
    '| data | `train.jsonl` |',
    '| records | 1,234 |',
    "MESH = '@partitioning.make_mesh()'",
  ):
    assert f'\n{line}\n' in text, line
  # Exported, it is a model of transformers.
  out = tmp_path / 'exported'
  out.mkdir()
  model_card.write_card(out, run, 800, pytorch=True)
  text = (out / 'README.md').read_text()
  assert metadata(text)['library_name'] == 'transformers'
  assert '`transformers.Blip2ForConditionalGeneration.from_pretrained`' in text


def test_converted_weights_have_a_card_without_a_run(tmp_path):
  tiny = configs.TINY
  reader = dataclasses.replace(tiny.qformer, instruction=True)
  model_dir.write_config(tmp_path, dataclasses.replace(tiny, qformer=reader))
  model_card.write_card(tmp_path, tmp_path, 0, pytorch=True)
  text = (tmp_path / 'README.md').read_text()
  assert 'Exported to PyTorch by mmicl_jax' in text
  assert 'transformers.InstructBlipForConditionalGeneration' in text
  assert 'Settings of the run' not in text and '| steps' not in text


@pytest.mark.parametrize('instructed', [True, False])
def test_an_export_says_what_its_qformer_wants(tmp_path, instructed):
  tiny = configs.TINY
  reader = dataclasses.replace(tiny.qformer, instruction=instructed)
  model_dir.write_config(tmp_path, dataclasses.replace(tiny, qformer=reader))
  model_card.write_card(tmp_path, tmp_path, 0, pytorch=True)
  text = (tmp_path / 'README.md').read_text()
  assert ('`qformer_input_ids`' in text) is instructed
  assert '`num_query_tokens` of 图 for each.\n' in text
  assert '\n\n## What only you can say' in text and '\n\n\n' not in text


def test_a_persons_file_is_left_alone(run):
  assert model_card.write_card(run, run, 1, pytorch=False)
  assert model_card.write_card(run, run, 2, pytorch=False)
  own = (run / 'README.md').read_text()
  assert '| steps | 2 of' in own
  mine = own.replace(model_card.MARK, '').replace('2 of', 'many of')
  (run / 'README.md').write_text(mine)
  assert not model_card.write_card(run, run, 3, pytorch=False)
  assert (run / 'README.md').read_text() == mine


def test_a_run_without_a_folder_of_its_own_gets_no_card(run, tmp_path):
  data = tmp_path / 'train.jsonl'
  data.write_text('{}\n{}\n')
  for names in {}, {'MODEL_DIR': None}, {'MODEL_DIR': str(tmp_path)}:
    leave_card(names, 5)
  assert not list(tmp_path.rglob(model_card.CARD))
  leave_card({'MODEL_DIR': str(run), 'DATA': str(data)}, 5)
  assert '| records | 2 |' in (run / model_card.CARD).read_text()
