"""The exported tokenizer gives our ids, in the fast tokenizer's own code."""

import json
import random
from pathlib import Path

import pytest

from mmicl_jax.convert.processor_files import tokenizer_json, write_processor
from mmicl_jax.demo.data import demo_vocabulary
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

DATA = Path(__file__).parents[3] / 'shared' / 'data'
T5, BERT = DATA / 't5' / 'spiece.model', DATA / 'bert' / 'vocab.txt'
PARTS = (
  'image 0 is <image0>图. Question: is the dog larger? yes\nno  and   then '
  'naïve café ½ of 1.5; "quoted" don\'t ＦＵＬＬ 東京 👍🏽 </s> <pad> <unk> '
  '<extra_id_0> <extra_id_99> 图图 图 <image19><image1> a\tb e\u0301 '
).split(' ')


def texts(count):
  rng = random.Random(0)
  for _ in range(count):
    words = rng.choices(PARTS, k=rng.randint(0, 9))
    yield ''.join(
      word + rng.choice(['', ' ', ' ', '  ', '\n']) for word in words
    )


@pytest.fixture(scope='module', params=['trained here', 'T5'])
def vocabulary(request, tmp_path_factory):
  if request.param == 'T5':
    if not T5.exists():
      pytest.skip(f"T5's vocabulary is not at {T5}")
    return T5
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece(list(texts(200)), path, 150)
  return path


def exported(directory, vocabulary, **fields):
  tokenizer = Tokenizer(vocabulary)
  config = configs.MMICLConfig(
    t5=configs.T5Config(vocab_size=tokenizer.vocab_size + 7),
    image_token=tokenizer.image_id,
    **fields,
  )
  write_processor(directory, config, vocabulary, None)
  return tokenizer


def test_file_gives_our_ids(vocabulary, tmp_path):
  tokenizers = pytest.importorskip('tokenizers')
  fast = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(vocabulary)))
  ours = Tokenizer(vocabulary)
  for text in texts(500):
    assert fast.encode(text).ids == [*ours.encode(text), 1], repr(text)


@pytest.mark.slow
def test_a_piece_without_a_score_leaves_the_file_strict(tmp_path):
  """A training gives a letter that no text needs alone a score of -inf."""
  path = tmp_path / 'demo.model'
  path.write_bytes(demo_vocabulary())
  exported(tmp_path, path)
  text = (tmp_path / 'tokenizer.json').read_text('utf-8')
  assert 'Infinity' not in text
  tokenizers = pytest.importorskip('tokenizers')
  fast = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  ours = Tokenizer(path)
  for word in ('a', 'aa xaax', 'is the animal a cat?'):
    assert fast.encode(word).ids == [*ours.encode(word), 1]


def test_transformers_loads_it_and_gives_our_ids(vocabulary, tmp_path):
  transformers = pytest.importorskip('transformers')
  ours = exported(tmp_path, vocabulary)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert len(theirs) == ours.vocab_size
  assert theirs.convert_tokens_to_ids('图') == ours.image_id
  for text in texts(200):
    assert theirs(text)['input_ids'] == [*ours.encode(text), 1], repr(text)


def test_image_processor_is_the_models(tmp_path):
  transformers = pytest.importorskip('transformers')
  write_processor(tmp_path, configs.TINY, None, None)
  processor = transformers.BlipImageProcessor.from_pretrained(tmp_path)
  assert dict(processor.size) == {'height': 28, 'width': 28}
  assert processor.resample == 3
  assert not (tmp_path / 'tokenizer.json').exists()


@pytest.mark.skipif(
  not (T5.exists() and BERT.exists()), reason=f'no vocabularies at {DATA}'
)
@pytest.mark.parametrize('preset', ['XL', 'BLIP2_XL'])
def test_processor_of_the_full_model_loads(tmp_path, preset):
  transformers = pytest.importorskip('transformers')
  write_processor(tmp_path, getattr(configs, preset), T5, BERT)
  kind = 'InstructBlip' if preset == 'XL' else 'Blip2'
  theirs = getattr(transformers, f'{kind}Processor').from_pretrained(tmp_path)
  ids = theirs.tokenizer('image 0 is <image0>图.')['input_ids']
  assert ids == [1023, 3, 632, 19, 32101, 32100, 3, 5, 1]
  if preset == 'XL':
    assert theirs.qformer_tokenizer.convert_tokens_to_ids('[DEC]') == 30522


def test_vocabulary_of_another_model_is_refused(vocabulary, tmp_path):
  config = configs.MMICLConfig(image_token=7)
  with pytest.raises(UserError, match='图 has id'):
    write_processor(tmp_path, config, vocabulary, None)
