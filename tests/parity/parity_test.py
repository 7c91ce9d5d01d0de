"""The parity report says yes to equal models and finds where others differ."""

import json

import hf_models
import numpy as np
import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.models.configs import TINY
from mmicl_jax.parity.check import check_parity
from mmicl_jax.parity.inputs import random_inputs
from mmicl_jax.parity.report import difference


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp('parity')
  for kind in ('instructblip', 'blip-2'):
    hf_models.hf_model(kind).save_pretrained(path / kind)
  return path


@pytest.mark.slow
def test_instructblip_agrees_everywhere(directory, tmp_path, capsys):
  source, out = str(directory / 'instructblip'), str(tmp_path / 'out')
  page = tmp_path / 'page.html'
  assert main(['convert', 'to-jax', '--source', source, '--out', out]) == 0
  capsys.readouterr()
  command = ['convert', 'check', '--source', source, '--checkpoint', out]
  command += ['--words', '5', '--json', '--html', str(page)]
  assert main(command) == 0
  report = json.loads(capsys.readouterr().out)
  places = [row['place'] for row in report['rows']]
  for name in (
    'patch embedding',
    'ViT layer 2',
    'Q-Former layer 4',
    'projection',
    'spliced embeddings',
    'T5 encoder layer 1',
    'T5 decoder layer 1',
    'logits',
    'loss',
    'greedy tokens',
    'beam tokens',
  ):
    assert name in places
  assert sum('gradients of' in name for name in places) == 2
  assert report['ok'] and all(row['ok'] for row in report['rows'])
  assert 'agree in all' in page.read_text()


@pytest.mark.slow
def test_blip2_in_memory_agrees(directory):
  report = check_parity(directory / 'blip-2', counts=(1, 0))
  assert report.ok, report.text()


@pytest.mark.slow
def test_a_wrong_eps_is_found_where_it_starts(directory, tmp_path, capsys):
  source, out = str(directory / 'blip-2'), str(tmp_path / 'out')
  command = ['convert', 'to-jax', '--source', source, '--out', out]
  assert main(command) == 0
  path = tmp_path / 'out' / 'model.json'
  values = json.loads(path.read_text())
  values['t5']['activation'] = 'gelu_new'
  path.write_text(json.dumps(values))
  command = ['convert', 'check', '--source', source, '--checkpoint', out]
  assert main([*command, '--images', '1,1']) == 1
  assert 'the first is: T5 encoder layer 0' in capsys.readouterr().out


def test_difference_is_relative_to_the_largest():
  a = np.array([1.0, 100.0])
  assert difference('x', a, a + [0.0005, 0], 1e-5).ok
  assert not difference('x', a, a + [0.005, 0], 1e-5).ok
  assert not difference('x', a, a * np.nan, 1e-5).ok
  assert not difference('x', a, a[:1], 1e-5).ok


def test_random_inputs_fit_the_model():
  batch = random_inputs(TINY, (2, 0), words=4)
  slots = (batch['encoder_input_tokens'] == TINY.image_token).sum(1)
  assert slots.tolist() == [2 * TINY.qformer.num_queries, 0]
  assert batch['qformer_input_tokens'].max() < TINY.qformer.vocab_size
