import pickle
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

DATA = Path(__file__).parents[2] / 'shared' / 'data'
T5, BERT = DATA / 't5' / 'spiece.model', DATA / 'bert' / 'vocab.txt'
needs_t5 = pytest.mark.skipif(
  not T5.exists(), reason=f"T5's vocabulary is not at {T5}"
)
needs_bert = pytest.mark.skipif(
  not BERT.exists(), reason=f"BERT's vocabulary is not at {BERT}"
)

ADDED = ['图', *(f'<image{i}>' for i in range(20))]
T5_SPECIAL = [
  '</s>',
  '<pad>',
  '<unk>',
  *(f'<extra_id_{i}>' for i in range(100)),
]
TEXTS = [
  'image 0 is <image0>图. Question: is the dog larger than the cat? yes',
  'image 1 is <image1>图. What is shown? a photograph of the red house',
  'naïve café, 3,000 dollars and ½ of 1.5; "quoted" words don\'t matter!',
  'the quick brown fox jumps over the lazy dog 0123456789',
] * 5


@pytest.fixture(scope='module')
def t5():
  return Tokenizer(T5)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece(TEXTS, path, 120)
  return Tokenizer(path)


def hugging_face_t5():
  """The fast tokenizer with MIC's added tokens, as transformers adds them.

  The prefix is put before every section, which is how transformers 4.33 read
  the file and how transformers 5 builds T5Tokenizer; the file's own field
  `first` is younger than the published model.
  """
  tokenizers = pytest.importorskip('tokenizers')
  fast = tokenizers.Tokenizer.from_file(str(T5.with_name('tokenizer.json')))
  return with_mic_tokens(fast, tokenizers)


def with_mic_tokens(fast, tokenizers):
  fast.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(
    prepend_scheme='always'
  )
  fast.add_special_tokens(
    [
      tokenizers.AddedToken(token, normalized=False, special=True)
      for token in ADDED
    ]
  )
  return fast


WORDS = (
  'image question answer the dog photographer is 1.5 3,000 $5 '
  '"quoted" don\'t Straße naïve ½ ﬁn Ⅷ ＦＵＬＬ 東京 日本語 '
  '한국어 привет ह\u093fन\u094dद\u0940 ไทย นำ عربي 图画 図 '
  '👍🏽 👨\u200d👩\u200d👧 e\u0301 n\u0303o a\u0308\u0323 '
  'ﬁ\u0301 ª\u0903 \u0600e\u0301 각 x\x00y \x07 \x7f \u200b '
  '\u200d \u200c \ufeff \xad ▁ ▁▁ a▁b ＜pad＞ ＜／s＞ '
  '＜extra_id_7＞ ＜image3＞ <image20> <image> <image01> '
  '<IMAGE0> < > <extra_id_100> <extra_id_05> </ s> \ue000 '
  '\u2028 \x85 \x1c \x1f ¨ ´ ㎏ ㍿ ① … ‥ '
  '<image９> <extra_id_٣> ＜unk＞ \U00106697＜unk＞\U00106697 ＜unk＞＜unk＞ '
  'e\u0301\U000e0041 e\u0301\U0001f3fd \U000110bde\u0301 \U0001193fe\u0301'
).split(' ')
SEPARATORS = (
  ' ', '', '  ', '\n', '\n\n', '\t', ' \n ', '\r\n', '\u3000', '\xa0', '   ',
)  # fmt: skip


def prompts(count, seed=0):
  rng = random.Random(seed)
  yield from [
    '',
    ' ',
    '\n',
    '图',
    ' 图 ',
    '  图图 图\n图',
    '. 图 .',
    ' ▁ ',
    *WORDS,
  ]
  yield from (
    f'{a}{b}.{a} {b} .' for a in ADDED for b in ('', '图', '</s>', ' ')
  )
  kinds = (WORDS, WORDS, ADDED, T5_SPECIAL)
  for _ in range(count):
    yield ''.join(
      rng.choice(rng.choice(kinds)) + rng.choice(SEPARATORS)
      for _ in range(rng.randrange(1, 14))
    )
  everything = [
    chr(c) for c in range(0x3FFFF) if unicodedata.category(chr(c)) not in _NONE
  ]
  marks = [c for c in everything if unicodedata.category(c)[0] == 'M']
  latin = [chr(c) for c in range(0x250)] + ['\u0301', '\u0308', '\u0323'] * 60
  for _ in range(count):
    yield ''.join(
      rng.choice(rng.choice((everything, latin, latin, marks)))
      for _ in range(rng.randrange(1, 12))
    )


_NONE = ('Cs', 'Cn', 'Co')


def assert_equal_ids(ours, fast, texts):
  for text in texts:
    theirs = fast.encode(text, add_special_tokens=False).ids
    assert ours.encode(text) == theirs, repr(text)
    for skip in (True, False):
      expected = fast.decode(theirs, skip_special_tokens=skip)
      assert ours.decode(theirs, skip) == expected, repr(text)


@needs_t5
def test_thousands_of_prompts_equal_hugging_face(t5):
  texts = list(prompts(2000))
  assert len(texts) > 4000
  assert_equal_ids(t5, hugging_face_t5(), texts)


@pytest.mark.slow
@needs_t5
def test_equals_transformers_t5_tokenizer(t5, tmp_path):
  transformers = pytest.importorskip(
    'transformers', '5.0', 'earlier releases read tokenizer.json as it is'
  )
  source = T5.with_name('tokenizer.json')
  (tmp_path / 'tokenizer.json').write_bytes(source.read_bytes())
  (tmp_path / 'tokenizer_config.json').write_text(
    '{"tokenizer_class": "T5Tokenizer", "extra_ids": 100}'
  )
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  theirs.add_special_tokens({'additional_special_tokens': ADDED})
  for text in prompts(300, seed=1):
    # This class, not tokenizer.json, drops a NEL in the middle of a text.
    text = text.replace('\x85', '')
    ids = theirs(text, add_special_tokens=False).input_ids
    assert t5.encode(text) == ids, repr(text)


def test_small_vocabulary_equals_hugging_face(small):
  tokenizers = pytest.importorskip('tokenizers')
  proto = pytest.importorskip('sentencepiece.sentencepiece_model_pb2')
  model = proto.ModelProto.FromString(small.__getstate__())
  normalizers = tokenizers.normalizers
  pieces = [(p.piece, p.score) for p in model.pieces]
  pieces[:3] = [(token, 0.0) for token, _ in pieces[:3]]
  pieces += [(f'<extra_id_{i}>', 0.0) for i in reversed(range(100))]
  fast = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, 2, False))
  fast.normalizer = normalizers.Sequence(
    [
      normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
      normalizers.Strip(left=False, right=True),
      normalizers.Replace(tokenizers.Regex(' {2,}'), '▁'),
    ]
  )
  fast.decoder = tokenizers.decoders.Metaspace()
  fast.add_special_tokens(T5_SPECIAL)
  with_mic_tokens(fast, tokenizers)
  assert_equal_ids(small, fast, [*prompts(500, seed=2), *TEXTS])


@needs_t5
def test_golden_ids(t5):
  assert (t5.image_id, t5.vocab_size) == (32100, 32121)
  assert t5.encode('image 0 is <image0>图.') == [
    1023, 3, 632, 19, 32101, 32100, 3, 5
  ]  # fmt: skip
  text = 'image 0 is <image0>图图图.\nQuestion: <image0> is a dog.'
  assert t5.encode(text) == [
    1023, 3, 632, 19, 32101, 32100, 32100, 32100, 3, 5, 11860, 10, 32101, 19,
    3, 9, 1782, 5
  ]  # fmt: skip
  assert t5.encode('<extra_id_0><extra_id_99></s><pad><unk>') == [
    32099, 32000, 1, 0, 2
  ]  # fmt: skip


def test_added_tokens_follow_pieces_and_extra_ids(small):
  first_extra = small.image_id - 100
  assert small.encode('<extra_id_99><extra_id_0>图<image0><image19>') == [
    first_extra,
    first_extra + 99,
    first_extra + 100,
    first_extra + 101,
    first_extra + 120,
  ]
  assert small.vocab_size == first_extra + 121


def test_pieces_start_afresh_after_an_added_token(small):
  dot = small.encode('.')
  assert small.encode('图.') == [small.image_id, *dot]
  assert small.encode('图 .') == [small.image_id, *dot]
  assert small.encode('. 图') == [*dot, small.image_id]


def test_text_survives_the_round_trip(small):
  text = 'the lazy dog jumps over the red house, yes!'
  assert small.decode(small.encode(text)) == text
  assert small.decode(small.encode(f'<image3>图 {text}</s>')) == text
  assert small.decode(small.encode(f'<image3>图 {text}'), False) == (
    f'<image3>图 {text}'
  )


def test_odd_input_is_safe(small):
  assert small.encode('') == [] and small.decode([]) == ''
  assert small.encode('\ud800') == small.encode('\ufffd')
  ids = small.encode('the dog')
  beyond = [-1, small.vocab_size, 32127, 10**9]
  assert small.decode([*beyond, *ids, *beyond]) == 'the dog'
  assert small.decode(np.array(ids, np.int32)) == 'the dog'
  assert small.decode(iter(ids)) == 'the dog'


def test_encoding_does_not_hand_out_its_cache(small):
  first = small.encode('dog')
  first.append(7)
  assert small.encode('dog') == first[:-1]


def test_pickled_copy_needs_no_file(tmp_path):
  path = tmp_path / 'a' / 'spiece.model'
  train_sentencepiece(TEXTS, path, 120)
  original = Tokenizer(path)
  data = path.read_bytes()
  path.unlink()
  copy = pickle.loads(pickle.dumps(original))
  assert copy.encode(TEXTS[0]) == original.encode(TEXTS[0])
  copy.save(tmp_path / 'copy.model')
  assert (tmp_path / 'copy.model').read_bytes() == data


def test_training_is_deterministic_and_leaves_added_tokens_out(tmp_path):
  for name in 'ab':
    train_sentencepiece(iter(TEXTS), tmp_path / name, 120)
  assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
  assert '图'.encode() not in (tmp_path / 'a').read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'b']
  with pytest.raises(UserError, match='vocabulary of 5 pieces'):
    train_sentencepiece(TEXTS, tmp_path / 'c', 5)
  with pytest.raises(UserError, match='cannot train'):
    train_sentencepiece(['图'], tmp_path / 'c', 50)


def test_bad_models_are_user_errors(tmp_path, small):
  path = tmp_path / 'spiece.model'
  with pytest.raises(UserError, match='spiece.model: cannot read'):
    Tokenizer(path)
  for content in (b'', b'no model', small.__getstate__()[:-2000]):
    path.write_bytes(content)
    with pytest.raises(UserError, match='spiece.model: not a Sentence'):
      Tokenizer(path)


def test_models_with_other_special_ids_are_refused(tmp_path):
  import sentencepiece

  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[1:4]),
    model_prefix=str(tmp_path / 'llama'),
    vocab_size=80,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  with pytest.raises(UserError, match='T5 needs'):
    Tokenizer(tmp_path / 'llama.model')


BERT_WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'is', 'image', '0']


def test_bert_adds_mic_tokens_after_the_vocabulary(tmp_path):
  pytest.importorskip('tokenizers')
  path = tmp_path / 'vocab.txt'
  path.write_text('\n'.join([*BERT_WORDS, '.', 'dog', '##s']))
  bert = BertTokenizer(path)
  assert bert.encode('Image 0 is <image0>图. dogs [DEC]') == [
    2, 6, 7, 5, 13, 12, 8, 9, 10, 11, 3
  ]  # fmt: skip
  assert bert.encode('image image image 0 is', max_length=4) == [2, 7, 5, 3]
  assert bert.vocab_size == 11 + 1 + 21 + 79
  copy = pickle.loads(pickle.dumps(bert))
  assert copy.encode('dogs 图') == bert.encode('dogs 图')


def test_bert_without_its_vocabulary(tmp_path):
  pytest.importorskip('tokenizers')
  with pytest.raises(UserError, match='absent.txt: cannot read'):
    BertTokenizer(tmp_path / 'absent.txt')
  (tmp_path / 'no.txt').write_text('a\nb')
  with pytest.raises(UserError, match=r'\[PAD\] is missing'):
    BertTokenizer(tmp_path / 'no.txt')


@needs_bert
def test_bert_equals_hugging_face():
  transformers = pytest.importorskip('transformers')
  vocab = {w: i for i, w in enumerate(BERT.read_text().splitlines())}
  theirs = transformers.BertTokenizerFast(
    vocab=vocab, do_lower_case=True, bos_token='[DEC]'
  )
  # Fails in the releases that took a file name here.
  if len(theirs) != 30523:
    theirs = transformers.BertTokenizerFast(str(BERT), bos_token='[DEC]')
  extra = [f'<extra_id_{i}>' for i in range(21, 100)]
  theirs.add_special_tokens({'additional_special_tokens': [*ADDED, *extra]})
  ours = BertTokenizer(BERT)
  assert len(theirs) == ours.vocab_size == 30623
  assert ours.encode('[DEC]图<image0><image19><extra_id_21>')[1:-1] == [
    30522, 30523, 30524, 30543, 30544
  ]  # fmt: skip
  for text in prompts(500, seed=3):
    assert ours.encode(text) == theirs(text).input_ids, repr(text)
