"""Every damage is named in one sentence, and leaves no output behind."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy as safetensors

from mmicl_jax.__main__ import main
from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.convert.saving import save_pretrained
from mmicl_jax.convert.tensors import open_directory
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import init_params

CONFIG = configs.MMICLConfig(
  vit=configs.ViTConfig(8, 1, 2, mlp_dim=8, image_size=8, patch_size=4),
  qformer=configs.QFormerConfig(
    8, 2, 2, mlp_dim=8, num_queries=2, vocab_size=12, max_positions=8
  ),
  t5=configs.T5Config(
    8, 1, 1, num_heads=2, head_dim=4, mlp_dim=8, vocab_size=24
  ),
  image_token=20,
)


@pytest.fixture(scope='module')
def params():
  return jax.jit(lambda k: init_params(CONFIG, k))(jax.random.key(0))


@pytest.fixture
def source(tmp_path, params):
  save_pretrained(CONFIG, params, tmp_path / 'hf', shard_bytes=6000)
  return tmp_path / 'hf'


def edit(path, change):
  """Applies change(header) to a .safetensors file, whose bytes stay."""
  data = path.read_bytes()
  size = int.from_bytes(data[:8], 'little')
  header = json.loads(data[8 : 8 + size])
  change(header)
  text = json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data[8 + size :])


def shard_of(source, name):
  index = json.loads((source / 'model.safetensors.index.json').read_text())
  return source / index['weight_map'][name]


def config_of(source, change):
  path = source / 'config.json'
  values = json.loads(path.read_text())
  change(values)
  path.write_text(json.dumps(values))


def truncate(source):
  path = shard_of(source, 'language_projection.weight')
  path.write_bytes(path.read_bytes()[:-1])


def truncate_header(source):
  path = shard_of(source, 'language_projection.weight')
  path.write_bytes(path.read_bytes()[:20])


def lose_tensor(source):
  path = shard_of(source, 'language_projection.bias')
  tensors = safetensors.load_file(path)
  del tensors['language_projection.bias']
  safetensors.save_file(tensors, path)


def rename_tensor(source):
  name = 'language_projection.bias'
  path = shard_of(source, name)
  edit(path, lambda h: h.update({'a.b': h.pop(name)}))
  index = source / 'model.safetensors.index.json'
  index.write_text(index.read_text().replace(name, 'a.b'))


def lose_shard(source):
  shard_of(source, 'query_tokens').unlink()


def reshape(source):
  def change(header):
    header['language_projection.weight']['shape'] = [4, 16]

  edit(shard_of(source, 'language_projection.weight'), change)


def poison(source):
  path = shard_of(source, 'language_projection.weight')
  data = bytearray(path.read_bytes())
  size = int.from_bytes(data[:8], 'little')
  entry = json.loads(data[8 : 8 + size])['language_projection.weight']
  start = 8 + size + entry['data_offsets'][0]
  data[start : start + 4] = np.float32(np.nan).tobytes()
  path.write_bytes(data)


def quantise(source):
  def change(header):
    header['language_projection.weight']['dtype'] = 'I32'

  edit(shard_of(source, 'language_projection.weight'), change)


def vicuna(source):
  config_of(source, lambda v: v['text_config'].update(model_type='llama'))


def opt(source):
  config_of(source, lambda v: v['text_config'].update(model_type='opt'))


def other_variant(source):
  config_of(source, lambda v: v.update(model_type='blip-2'))


def no_config(source):
  (source / 'config.json').unlink()


def bad_index(source):
  (source / 'model.safetensors.index.json').write_text('{"weight_map": 3}')


def other_start(source):
  config_of(source, lambda v: v['text_config'].update(decoder_start_token_id=2))


def adapter_beside(source):
  (source / 'adapter_config.json').write_text('{}')


def add_tensor(source, name):
  tensors = {n: t.read() for n, t in open_directory(source).items()}
  write_one(source, tensors | {name: np.ones(8, np.float32)})


def unmerged(source):
  add_tensor(source, 'language_model.shared.lora_A.default.weight')


def bitsandbytes(source):
  add_tensor(source, 'language_projection.SCB')


DAMAGES = {
  other_start: 'decoder_start_token_id is 2',
  adapter_beside: 'adapter_config.json.*merge_and_unload',
  unmerged: 'are not merged: call merge_and_unload',
  bitsandbytes: 'bitsandbytes has quantised',
  truncate: 'truncated',
  truncate_header: 'truncated',
  lose_tensor: 'language_projection.bias',
  rename_tensor: 'language_projection.bias',
  lose_shard: 'missing',
  reshape: r'language_projection.weight has shape \(4, 16\)',
  poison: 'language_projection.weight holds NaN',
  quantise: 'quantised',
  vicuna: 'Vicuna',
  opt: 'OPT',
  other_variant: 'lacks qformer.layernorm',
  no_config: 'config.json is missing',
  bad_index: 'not an index',
}


@pytest.mark.slow
@pytest.mark.parametrize('damage', DAMAGES, ids=lambda f: f.__name__)
def test_damage_is_named_and_nothing_is_written(
  damage, source, tmp_path, capsys
):
  damage(source)
  out = tmp_path / 'out'
  command = ['convert', 'to-jax', '--source', str(source), '--out', str(out)]
  assert main(command) == 2
  message = capsys.readouterr().err
  assert re.search(DAMAGES[damage], message)
  assert message.count('\n') == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == ['hf']


@pytest.mark.slow
def test_an_error_while_writing_is_one_line_in_a_terminal(source, tmp_path):
  """Orbax's threads log what they raise, which only a process shows."""
  poison(source)
  command = [sys.executable, '-m', 'mmicl_jax', 'convert', 'to-jax']
  run = subprocess.run(
    [*command, '--source', str(source), '--out', str(tmp_path / 'out')],
    capture_output=True,
    text=True,
    cwd=Path(__file__).parents[2],
  )
  assert run.returncode == 2 and run.stdout == ''
  assert 'holds NaN' in run.stderr and run.stderr.count('\n') == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == ['hf']


def test_output_is_never_overwritten(source, tmp_path, capsys):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'mine').write_text('x')
  command = ['convert', 'to-jax', '--source', str(source)]
  assert main([*command, '--out', str(tmp_path / 'out')]) == 2
  assert 'not empty' in capsys.readouterr().err
  assert (tmp_path / 'out' / 'mine').read_text() == 'x'


def test_nan_parameters_are_not_exported(params, tmp_path):
  params = jax.tree.map(lambda x: x, params)
  params['projector']['bias'] = params['projector']['bias'].at[0].set(np.nan)
  with pytest.raises(UserError, match='projector/bias'):
    save_pretrained(CONFIG, params, tmp_path / 'out')
  assert not list(tmp_path.iterdir())


def test_parameters_of_another_model_are_not_exported(params, tmp_path):
  other = dict(params, projector={'kernel': params['projector']['kernel']})
  with pytest.raises(UserError, match='projector/bias has shape none'):
    save_pretrained(CONFIG, other, tmp_path / 'out')


@pytest.mark.parametrize('size', ['nan', 'inf', '0', '-1'])
def test_a_file_size_without_a_meaning(capsys, tmp_path, size):
  command = ['convert', 'to-pytorch', '--checkpoint', str(tmp_path)]
  command += ['--out', str(tmp_path / 'out'), '--shard_gb', size]
  assert main(command) == 2
  assert f'--shard_gb {float(size)}: give' in capsys.readouterr().err


def test_absent_source_is_named(capsys, tmp_path):
  out = str(tmp_path / 'out')
  assert main(['convert', 'to-jax', '--source', '/no/dir', '--out', out]) == 2
  assert '/no/dir' in capsys.readouterr().err


def test_hub_name_without_a_connection(capsys, tmp_path):
  out = str(tmp_path / 'out')
  assert main(['convert', 'to-jax', '--source', 'no/such', '--out', out]) == 2
  assert 'hub' in capsys.readouterr().err


def test_former_names_and_wrappers(source, params):
  """DeepSpeed's prefix, repeated tables, buffers that nobody reads."""
  tensors = {n: t.read() for n, t in open_directory(source).items()}
  table = tensors['language_model.shared.weight']
  tensors['language_model.encoder.embed_tokens.weight'] = table
  tensors['language_model.decoder.embed_tokens.weight'] = table
  tensors['qformer.embeddings.position_ids'] = np.arange(8)[None]
  write_one(source, {f'module.{n}': x for n, x in tensors.items()})
  _, again, info = load_pretrained(source)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  assert any('position_ids' in note for note in info['notes'])


def test_repeated_table_that_differs(source):
  tensors = {n: t.read() for n, t in open_directory(source).items()}
  table = tensors['language_model.shared.weight']
  tensors['language_model.encoder.embed_tokens.weight'] = table + 1
  write_one(source, tensors)
  with pytest.raises(UserError, match='embed_tokens'):
    load_pretrained(source)


def test_tied_head_is_a_copy_of_the_table(source):
  tensors = {n: t.read() for n, t in open_directory(source).items()}
  del tensors['language_model.lm_head.weight']
  write_one(source, tensors)
  _, params, info = load_pretrained(source)
  np.testing.assert_array_equal(
    params['t5']['lm_head']['kernel'].T,
    params['t5']['token_embedder']['embedding'],
  )
  assert any('tied' in note for note in info['notes'])


def test_scaled_head_is_stored_scaled(source, params):
  def scaled(values):
    del values['text_config']['scale_decoder_outputs']
    values['text_config']['tie_word_embeddings'] = True

  config_of(source, scaled)
  _, again, _ = load_pretrained(source)
  np.testing.assert_allclose(
    again['t5']['lm_head']['kernel'],
    params['t5']['lm_head']['kernel'] * 8**-0.5,
    rtol=1e-6,
  )


def test_tables_grow_with_a_message(source):
  config_of(source, lambda v: v.update(image_token_index=30))
  config, params, info = load_pretrained(source)
  assert config.t5.vocab_size == 128
  table = np.asarray(params['t5']['token_embedder']['embedding'])
  np.testing.assert_allclose(
    table[24:], table[:24].mean(0)[None].repeat(104, 0), atol=1e-6
  )
  assert params['t5']['lm_head']['kernel'].shape == (8, 128)
  assert any('grown from 24 to 128' in note for note in info['notes'])


def test_rows_of_the_weights_win_and_are_told(source):
  config_of(source, lambda v: v['qformer_config'].update(vocab_size=9))
  config, _, info = load_pretrained(source)
  assert config.qformer.vocab_size == 12
  assert any('12 rows' in note for note in info['notes'])


def write_one(source, tensors):
  """One .safetensors file instead of the shards, by another writer."""
  for path in source.glob('model*'):
    path.unlink()
  safetensors.save_file(
    {n: np.ascontiguousarray(x) for n, x in tensors.items()},
    source / 'model.safetensors',
  )
