"""What `to-pytorch` writes opens with transformers, which answers alike."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import mmicl_jax
from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.convert import disk
from mmicl_jax.demo.data import demo_vocabulary
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.pieces.bert import MIC_TOKENS, BertTokenizer
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

transformers = pytest.importorskip('transformers')
torch = pytest.importorskip('torch')

TEXT = 'image 0 is <image0>{}. what is it? a cat or a dog'
WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] image 0 is what it ? a cat or dog .'
LORA = configs.LoRA(rank=2, alpha=3.0)
# The Q-Former's text, its rows beyond BERT's words, how the model runs.
KINDS = {
  'BLIP-2': (False, 0, {}),
  'InstructBLIP': (True, 1, {}),
  "InstructBLIP with MIC's rows": (True, 1 + len(MIC_TOKENS), {}),
  'layers apart': (False, 0, {'scan_layers': False}),
  'bfloat16': (False, 0, {'param_dtype': 'bfloat16'}),
  'adapters on bfloat16': (False, 0, {'lora': LORA, 'param_dtype': 'bfloat16'}),
}


def make(directory, kind, vocabulary):
  """A MODEL_DIR of random weights that are large enough to differ."""
  reads, rows, changes = KINDS[kind]
  words = WORDS.split()
  tokenizer, tiny = Tokenizer(vocabulary), configs.TINY
  config = dataclasses.replace(
    tiny,
    qformer=dataclasses.replace(
      tiny.qformer,
      instruction=reads,
      vocab_size=len(words) + rows,
      max_positions=64,
    ),
    t5=dataclasses.replace(tiny.t5, vocab_size=tokenizer.vocab_size + 3),
    image_token=tokenizer.image_id,
  )
  config = configs.with_execution(config, **changes)
  rng = np.random.default_rng(1)

  def random(path, x):
    x = x.value
    near = 1.0 if 'scale' in jax.tree_util.keystr(path) else 0.0
    values = near + rng.normal(size=x.shape) * (0.3 if x.ndim > 1 else 0.1)
    return jax.numpy.asarray(values, x.dtype)

  boxed = abstract_params(config)
  params = jax.tree_util.tree_map_with_path(
    random, boxed, is_leaf=lambda x: hasattr(x, 'names')
  )
  if changes.get('lora'):  # adapters are trained in float32
    params = jax.tree_util.tree_map_with_path(
      lambda path, x: (
        x.astype('float32') if 'lora_' in jax.tree_util.keystr(path) else x
      ),
      params,
    )
  directory.mkdir()
  store.save_weights(directory, params)
  model_dir.write_config(directory, config)
  model_dir.copy_vocabulary(directory, vocabulary)
  (directory / model_dir.QFORMER_VOCABULARY).write_text('\n'.join(words))
  return config


def theirs(directory, text, image, config):
  """(ids of the prompt, of the Q-Former's text, of the answer)."""
  processor = transformers.AutoProcessor.from_pretrained(directory)
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  model = transformers.AutoModelForImageTextToText.from_pretrained(
    directory, dtype=torch.float32
  ).eval()
  ids = tokenizer(text)['input_ids']
  assert processor.tokenizer(text)['input_ids'] == ids
  words, more = None, {}
  if config.qformer.instruction:
    words = processor.qformer_tokenizer(text)['input_ids']
    more['qformer_input_ids'] = torch.tensor([words])
    more['qformer_attention_mask'] = torch.ones_like(more['qformer_input_ids'])
  pixels = processor.image_processor(images=[image], return_tensors='pt')
  with torch.no_grad():
    answer = model.generate(
      pixel_values=pixels['pixel_values'],
      input_ids=torch.tensor([ids]),
      attention_mask=torch.ones(1, len(ids), dtype=torch.long),
      max_new_tokens=8,
      do_sample=False,
      num_beams=1,
      no_repeat_ngram_size=1,  # else random weights repeat one token
      **more,
    )
  return ids, words, answer[0].tolist()


def ours(directory, ids, words, image):
  """The ids of the answer."""
  model = mmicl_jax.load(directory)
  batch = {
    'encoder_input_tokens': np.array([ids], np.int32),
    'encoder_images': np.asarray(image)[None, None],
  }
  if words is not None:
    batch['qformer_input_tokens'] = np.array([words], np.int32)
  tokens, _ = model.decode(batch, max_new_tokens=8, no_repeat_ngram_size=1)
  return tokens[0, 0].tolist()


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece([TEXT.format('') + ' yes no'] * 9, path, 50)
  return path


def agree(directory, kind, vocabulary):
  config = make(directory / 'ours', kind, vocabulary)
  disk.to_pytorch(directory / 'ours', directory / 'hf')
  card = (directory / 'hf' / 'README.md').read_text()
  assert 'library_name: transformers' in card and '# ours' in card
  size = config.vit.image_size  # of the model: nobody resizes
  pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
  image = Image.fromarray(pixels)
  marks = '图' * config.qformer.num_queries
  rows = KINDS[kind][1]
  text = TEXT.format(marks)
  ids, words, answer = theirs(directory / 'hf', text, image, config)
  assert ids == [*Tokenizer(vocabulary).encode(text), 1]
  if rows == 1 + len(MIC_TOKENS):
    bert = BertTokenizer(directory / 'ours' / model_dir.QFORMER_VOCABULARY)
    assert words == bert.encode(text)
  assert answer[0] == 0  # they give the start token, too
  answer = answer[1:]
  assert ours(directory / 'ours', ids, words, image)[: len(answer)] == answer
  assert len(set(answer)) > 1


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_transformers_answers_alike(kind, vocabulary, tmp_path):
  agree(tmp_path, kind, vocabulary)


@pytest.mark.slow
def test_the_demos_vocabulary(tmp_path):
  """One of its pieces has no score."""
  path = tmp_path / 'demo.model'
  path.write_bytes(demo_vocabulary())
  agree(tmp_path, 'BLIP-2', path)


def test_mics_tokens_are_the_qformers_where_it_has_rows(tmp_path, vocabulary):
  for kind, known in (
    ('InstructBLIP', False),
    ("InstructBLIP with MIC's rows", True),
  ):
    config = make(tmp_path / kind, kind, vocabulary)
    disk.to_pytorch(tmp_path / kind, tmp_path / f'{kind}_hf')
    processor = transformers.AutoProcessor.from_pretrained(
      tmp_path / f'{kind}_hf'
    )
    words = processor.qformer_tokenizer
    first = len(WORDS.split())
    assert words.convert_tokens_to_ids('[DEC]') == first
    assert len(words) <= config.qformer.vocab_size
    ids = words('a 图 <image19> dog')['input_ids']
    assert (first + 1 in ids and first + 21 in ids) == known
