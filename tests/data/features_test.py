import random
import re

import numpy as np
import pytest

from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.features import (
  FeatureSpec,
  Truncation,
  collate,
  empty,
  feature_spec,
  featurize,
  pad_images,
)
from mmicl_jax.data.fitting import fit_prompt, prompt_ids
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

Q = 4
SPEC = FeatureSpec(
  inputs_length=96,
  targets_length=8,
  max_images=5,
  image_size=6,
  num_queries=Q,
)
TEXTS = [
  'image 0 is . Question: which colour is the square? red',
  'image 1 is . Is the circle larger than the square in image 2? no, yes',
  'User: Bot: passage words fill the prompt with a long story about a cat',
  'blue green word 1 2 3 4 5 6 7 8 9',
] * 5


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece(TEXTS, path, 120)
  return Tokenizer(path)


def spec(**changes):
  return FeatureSpec(**{**vars(SPEC), **changes})


def picture(level):
  return np.full((6, 6, 3), level, np.uint8)


def shots(count):
  return [
    Turn('Which colour is the square?', [picture(i + 1)], f'word {i}')
    for i in range(count)
  ]


def query(text='Which colour is the square?'):
  return Turn(text, [picture(200)], 'red')


def text_of(features, tokenizer):
  """The prompt that the model reads, one 图 per image again."""
  ids = features['encoder_input_tokens']
  ids = [i for i in ids if i not in (tokenizer.pad_id, tokenizer.eos_id)]
  return tokenizer.decode(ids, False).replace('图' * Q, '图')


def test_a_row_of_the_batch(tokenizer):
  example = Example('image 0 is <image0>图. Which colour?', 'red', [picture(7)])
  row = featurize(example, tokenizer, SPEC)
  ids = tokenizer.encode(f'image 0 is <image0>{"图" * Q}. Which colour?')
  assert ids.count(tokenizer.image_id) == Q
  inputs = row['encoder_input_tokens']
  assert inputs.dtype == np.int32 and inputs.shape == (96,)
  assert inputs.tolist() == [*ids, 1] + [0] * (95 - len(ids))
  red = [*tokenizer.encode('red'), 1]
  pads = [0] * (8 - len(red))
  assert row['decoder_target_tokens'].tolist() == red + pads
  assert row['decoder_input_tokens'].tolist() == ([0] + red + pads)[:8]
  assert row['decoder_loss_weights'].tolist() == [1] * len(red) + pads
  assert row['decoder_loss_weights'].dtype == np.int32
  images = row['encoder_images']
  assert images.shape == (5, 6, 6, 3) and images.dtype == np.uint8
  assert (images[0] == 7).all() and not images[1:].any()
  assert 'qformer_input_tokens' not in row


def test_text_only(tokenizer):
  row = featurize(Example('Which colour?', 'red'), tokenizer, SPEC)
  assert not row['encoder_images'].any()
  assert tokenizer.image_id not in row['encoder_input_tokens']
  none = featurize(Example('a', 'b'), tokenizer, spec(max_images=0))
  assert none['encoder_images'].shape == (0, 6, 6, 3)


def test_copies_as_published_files_write_them(tokenizer):
  once = Example('<image0>图 and <image1>图.', '', [picture(1), picture(2)])
  copies = Example(
    once.inputs.replace('图', '图' * Q), once.targets, once.images
  )
  a, b = (featurize(e, tokenizer, SPEC) for e in (once, copies))
  np.testing.assert_equal(a, b)
  wrong = Example(once.inputs.replace('图', '图' * 3), '', once.images)
  with pytest.raises(UserError, match='3 图 in a row stand for one image'):
    featurize(wrong, tokenizer, SPEC)


def test_unreadable_image_names_example_and_file(tokenizer):
  example = Example('<image0>图', '', ['no/such.png'], name='vqa.jsonl:7')
  with pytest.raises(UserError, match=r'vqa.jsonl:7: .*no/such.png'):
    featurize(example, tokenizer, SPEC)


def test_permuting_images_with_their_names_permutes_images_only(tokenizer):
  images = [picture(level) for level in (1, 2, 3)]
  text = 'image 0 is <image0>图. image 1 is <image1>图. image 2 is <image2>图.'
  a = featurize(Example(text, 'red', images), tokenizer, SPEC)
  b = featurize(Example(text, 'red', images[::-1]), tokenizer, SPEC)
  np.testing.assert_equal(
    a.pop('encoder_images')[:3], b.pop('encoder_images')[2::-1]
  )
  np.testing.assert_equal(a, b)


def test_oldest_demonstrations_give_way_first_and_are_renumbered(tokenizer):
  lost = []
  example = assemble(query(), shots(4), name='set:3')
  full = len(tokenizer.encode(example.inputs)) + 5 * (Q - 1) + 1
  row = featurize(
    example, tokenizer, spec(inputs_length=full - 1), on_truncation=lost.append
  )
  text = text_of(row, tokenizer)
  assert re.findall('word ([0-9])', text) == ['1', '2', '3']
  assert re.findall('<image([0-9])>', text) == ['0', '1', '2', '3']
  assert row['encoder_images'][:, 0, 0, 0].tolist() == [2, 3, 4, 200, 0]
  assert (lost[0].name, lost[0].demonstrations, lost[0].words) == (
    'set:3',
    1,
    0,
  )
  exact = featurize(example, tokenizer, spec(inputs_length=full))
  assert exact['encoder_images'][:, 0, 0, 0].tolist() == [1, 2, 3, 4, 200]
  assert exact['encoder_input_tokens'][-1] == 1


def test_too_many_images_drop_demonstrations(tokenizer):
  lost = []
  example = assemble(query(), shots(4))
  row = featurize(
    example, tokenizer, spec(max_images=2), on_truncation=lost.append
  )
  assert row['encoder_images'][:, 0, 0, 0].tolist() == [4, 200]
  assert lost[0].demonstrations == 3
  with pytest.raises(UserError, match='1 images, but max_images is 0'):
    featurize(example, tokenizer, spec(max_images=0))


def one_by_one(example, tokenizer, spec):
  """Leaves out the oldest demonstration until the prompt fits."""
  while example.num_shots:
    ids = prompt_ids(example.inputs, tokenizer, Q)
    if len(ids) < spec.inputs_length and len(example.images) <= spec.max_images:
      break
    example = example.keep_shots(example.num_shots - 1)
  return example


@pytest.mark.parametrize('style', ['plain', 'chat'])
def test_many_demonstrations_lose_as_many_as_one_by_one(tokenizer, style):
  """With images in any places; their numbers have one digit, or two."""
  chance = random.Random(0)
  for _ in range(12):
    few = [chance.choice([0, 0, 0, 1, 2]) for _ in range(14)]
    turns = [
      Turn('Is image {0} larger?' if n else 'story', [0] * n, f'word {i}')
      for i, n in enumerate(few)
    ]
    example = assemble(query('image {0} ' * 9), turns[:12], style=style)
    for _ in range(6):
      own = spec(
        inputs_length=chance.randrange(60, 400),
        max_images=chance.randrange(1, 20),
      )
      found, _, lost = fit_prompt(example, tokenizer, own)
      expected = one_by_one(example, tokenizer, own)
      assert found.inputs == expected.inputs
      assert lost.demonstrations == example.num_shots - expected.num_shots


def test_thousands_of_demonstrations_are_not_tokenized_thousands_of_times(
  tokenizer, monkeypatch
):
  encode, calls = Tokenizer.encode, []

  def counted(self, text):
    calls.append(text)
    return encode(self, text)

  monkeypatch.setattr(Tokenizer, 'encode', counted)
  example = assemble(query(), [Turn('a', (), 'b')] * 2000)
  _, ids, lost = fit_prompt(example, tokenizer, SPEC)
  assert len(ids) < SPEC.inputs_length and 1900 < lost.demonstrations < 2000
  assert len(calls) < 30


@pytest.mark.parametrize('length', range(31, 96, 5))
def test_truncation_never_cuts_images_or_declarations(tokenizer, length):
  story = 'passage words fill the prompt with a long story about a cat ' * 4
  text = (
    f'{story}image 0 is <image0>图. {story}image 1 is <image1>图.\n'
    'Which colour is the square?'
  )
  example = Example(text, 'red', [picture(1), picture(2)], name='x')
  lost = []
  row = featurize(
    example,
    tokenizer,
    spec(inputs_length=length),
    on_truncation=lost.append,
  )
  kept = text_of(row, tokenizer)
  ids = row['encoder_input_tokens']
  assert (ids == tokenizer.image_id).sum() == 2 * Q
  assert 'image 0 is<image0>图.' in kept.replace('图 .', '图.')
  assert 'image 1 is<image1>图.' in kept.replace('图 .', '图.')
  assert (ids == tokenizer.eos_id).sum() == 1
  assert lost[0].words > 0
  # As much as fits is kept: one word more would not have.
  left = re.sub('图+', '', kept).split()
  if length > 60:
    assert left[-1] == 'square?' and (ids != 0).sum() > length - 12


def test_declarations_that_do_not_fit_are_an_error(tokenizer):
  example = assemble(query(), shots(2), name='set:3')
  with pytest.raises(UserError, match='set:3: .*inputs_length') as error:
    featurize(example, tokenizer, spec(inputs_length=7))
  needed = int(re.findall('inputs_length ([0-9]+)', str(error.value))[0])
  row = featurize(
    example,
    tokenizer,
    spec(inputs_length=needed),
    on_truncation=lambda _: None,
  )
  assert row['encoder_input_tokens'][-1] == tokenizer.eos_id


def test_long_answers_keep_their_end_token(tokenizer):
  answer = 'a long story about a cat'
  with pytest.warns(UserWarning, match='tokens of the answer'):
    row = featurize(Example('x', answer, name='x'), tokenizer, SPEC)
  ids = tokenizer.encode(answer)
  assert row['decoder_target_tokens'].tolist() == [*ids[:7], 1]
  assert row['decoder_loss_weights'].all()


@pytest.mark.parametrize('targets_length', [2, 3, 5, 8, 20])
def test_every_number_of_what_was_left_out_is_right(tokenizer, targets_length):
  """Counted anew: what the row holds against what the example says."""
  answer = 'a long story about a cat'
  story = ' '.join(f'word {i}' for i in range(9))
  example = assemble(
    Turn(f'{story} which colour?', [picture(9)], answer), shots(3), name='x'
  )
  tokens = len(tokenizer.encode(answer))
  for length in (16, 25, 40, 60, 90, 200):
    lost = []
    row = featurize(
      example,
      tokenizer,
      spec(inputs_length=length, targets_length=targets_length),
      on_truncation=lost.append,
    )
    text = text_of(row, tokenizer)
    demonstrations = 4 - text.count('<image')
    # Of the query: `image 0 is <image0>图.`, then its 20 words.
    left = text.rpartition('图')[2].lstrip(' .').split()
    kept = int(row['decoder_loss_weights'].sum()) - 1  # but for the end
    expected = Truncation(
      'x', demonstrations, 20 - len(left), max(tokens - kept, 0)
    )
    assert lost == ([expected] if expected else [])


def test_what_was_left_out_as_a_sentence():
  text = str(Truncation('f:1', 1, 2, 1))
  assert text == (
    'f:1: left out 1 demonstration, 2 words of the prompt, 1 token of the '
    'answer to fit the lengths'
  )
  assert str(Truncation('f:1', 0, 1, 41)) == (
    'f:1: left out 1 word of the prompt, 41 tokens of the answer to fit the '
    'lengths'
  )
  assert not Truncation('f:1') and Truncation('f:1', words=1)


def test_lengths_that_leave_no_answer_are_refused():
  config = configs.TINY
  for length, words in ((1, 'room for the end token alone'), (0, 'at least 1')):
    with pytest.raises(UserError, match=words):
      feature_spec(config, 9, length, 1)


def test_qformer_reads_the_prompt_as_words(tokenizer, tmp_path):
  pytest.importorskip('tokenizers')
  path = tmp_path / 'vocab.txt'
  words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'image', '0', 'is']
  path.write_text('\n'.join([*words, '.', 'red']))
  bert = BertTokenizer(path)
  example = Example('image 0 is <image0>图. red', '', [picture(1)])
  with_text = spec(qformer_length=16)
  row = featurize(example, tokenizer, with_text, qformer_tokenizer=bert)
  # [CLS] image 0 is <image0> 图 x 4 . red [SEP]; [DEC] is 10, 图 11.
  assert row['qformer_input_tokens'].tolist() == [
    2, 5, 6, 7, 12, 11, 11, 11, 11, 8, 9, 3, 0, 0, 0, 0
  ]  # fmt: skip
  short = featurize(
    example, tokenizer, spec(qformer_length=5), qformer_tokenizer=bert
  )
  assert short['qformer_input_tokens'].tolist() == [2, 11, 8, 9, 3]
  assert empty(with_text).keys() == row.keys()
  with pytest.raises(ValueError, match='qformer_tokenizer'):
    featurize(example, tokenizer, with_text)


def test_collate_and_padding(tokenizer):
  row = featurize(Example('a', 'b'), tokenizer, SPEC)
  batch = collate([row, empty(SPEC)])
  assert batch.keys() == row.keys()
  for key, value in batch.items():
    assert value.dtype == row[key].dtype
    np.testing.assert_array_equal(value[0], row[key])
    assert not value[1].any()
  padded = pad_images([picture(3)], 3, 6)
  assert padded[:, 0, 0, 0].tolist() == [3, 0, 0]
