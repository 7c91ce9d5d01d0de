"""What `mmicl_jax.load` returns: text and images in, answers out."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_dir

import mmicl_jax as mmicl
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.decoding.options import Options
from mmicl_jax.inference import prompts as reading
from mmicl_jax.inference.predictor import token_texts
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

IMAGES = [np.full((20, 30, 3), 40 * i, np.uint8) for i in range(4)]
TURN = mmicl.Turn('is image {0} a dog? {image}', IMAGES[:1])
SHOT = mmicl.Turn('is image {0} a dog? {image}', IMAGES[1:2], 'yes')


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp('model')
  tiny_dir.make(path)
  return path


@pytest.fixture(scope='module')
def model(directory):
  return mmicl.load(directory, batch_size=4)


def test_answers(model):
  text = mmicl.Turn('what is it?')
  answers = model.generate([TURN, text, 'what is it?'], max_new_tokens=5)
  for answer in answers:
    assert answer.text == model.tokenizer.decode(answer.tokens)
    assert len(answer.tokens) == len(answer.log_probs) <= 5
    mean = sum(answer.log_probs) / len(answer.tokens)
    assert answer.score == pytest.approx(mean, abs=1e-5)
  assert answers[1].tokens == answers[2].tokens
  assert answers[0].others == ()


def test_several_answers_are_in_order(model):
  [answer] = model.generate(
    [TURN], num_beams=3, num_return_sequences=3, max_new_tokens=5
  )
  scores = [answer.score, *(other.score for other in answer.others)]
  assert len(scores) == 3 and scores == sorted(scores, reverse=True)


def test_shots_are_part_of_the_prompt(model):
  example = mmicl.assemble(TURN, [SHOT])
  prompt = model.prompt(TURN, [SHOT])
  own = model.prompt(example)
  np.testing.assert_array_equal(prompt.tokens, own.tokens)
  assert prompt.image_keys == own.image_keys and len(prompt.images) == 2
  assert prompt.tokens[-1] == model.tokenizer.eos_id
  queries = (prompt.tokens == model.config.image_token).sum()
  assert queries == 2 * model.config.qformer.num_queries
  with pytest.raises(mmicl.UserError, match='Example'):
    model.prompt(example, [SHOT])


@pytest.mark.slow
def test_packed_images_have_the_same_logits(model):
  queries = model.config.qformer.num_queries
  tokens = np.full((2, queries + 2), model.config.image_token, np.int32)
  tokens[:, -2:] = 5, 1
  pixels = np.stack([np.full((28, 28, 3), 90 * i, np.uint8) for i in (1, 2)])
  batch = {
    'encoder_input_tokens': tokens,
    'encoder_images': pixels[:, None],
    'decoder_input_tokens': np.array([[0, 4], [0, 4]], np.int32),
  }
  packed = {
    **batch,
    'encoder_images': pixels[None],
    'encoder_image_starts': np.array([0, 1], np.int32),
  }
  want = model.logits(batch)
  np.testing.assert_allclose(model.logits(packed), want, atol=1e-5)
  assert np.abs(want[0] - want[1]).max() > 1e-4
  with pytest.raises(mmicl.UserError, match='decode cannot read encoder_image'):
    model.decode(packed)


def test_scores_are_those_of_the_logits(model):
  candidates = ['yes', 'no', 'a red dog']
  scores = model.score([TURN, 'what is it?'], candidates)
  assert scores.shape == (2, 3)
  tokens = model.tokenizer.encode('a red dog') + [1]
  prompt = model.prompt(TURN)
  batch = {
    'encoder_input_tokens': jnp.asarray(prompt.tokens)[None],
    'encoder_images': jnp.asarray(np.stack(prompt.images))[None],
    'decoder_input_tokens': jnp.asarray([[0, *tokens[:-1]]]),
  }
  log_probs = jax.nn.log_softmax(model.logits(batch))[0]
  want = log_probs[jnp.arange(len(tokens)), jnp.asarray(tokens)]
  assert scores[0, 2] == pytest.approx(float(want.sum()), abs=1e-4)
  means = model.score([TURN], candidates, reduce='mean')
  assert means[0, 2] == pytest.approx(float(want.mean()), abs=1e-5)


def test_each_query_may_have_its_own_candidates(model):
  lists = [['yes', 'no', 'a red dog'], ['no']]
  scores = model.score([TURN, 'what is it?'], lists)
  assert np.isneginf(scores[1, 1:]).all() and np.isfinite(scores[0]).all()
  same = model.score([TURN, 'what is it?'], lists[0])
  np.testing.assert_allclose(scores[1, 0], same[1, 1], atol=1e-5)


@pytest.mark.parametrize(
  ('candidates', 'words'),
  [([], 'list of texts'), ([['a'], ['b']], '2 lists')]
  + [([[]], 'no candidates')],
)
def test_wrong_candidates(model, candidates, words):
  with pytest.raises(mmicl.UserError, match=words):
    model.score([TURN], candidates)


def test_one_thing_is_a_list_of_one(model):
  """A text is not its letters, wherever a list is meant."""
  short = {'max_new_tokens': 2}
  want = model.generate(['what is it?'], **short)
  assert [a.tokens for a in model.generate('what is it?', **short)] == [
    a.tokens for a in want
  ]
  one = model.generate(TURN, SHOT, **short)
  assert one[0].tokens == model.generate([TURN], [SHOT], **short)[0].tokens
  example = mmicl.assemble(TURN, SHOT)
  assert model.generate(example, **short)[0].tokens == one[0].tokens
  scores = model.score('what is it?', 'yes')
  np.testing.assert_array_equal(scores, model.score(['what is it?'], ['yes']))
  two = model.score(['what is it?', TURN], [['yes'], 'no'])
  assert two.shape == (2, 1)


def test_a_batch_of_nothing(model):
  batch = {
    'encoder_input_tokens': np.zeros((0, 16), np.int32),
    'encoder_images': np.zeros((0, 1, 28, 28, 3), np.uint8),
  }
  tokens, scores = model.decode(batch, num_beams=3, max_new_tokens=5)
  assert tokens.shape == (0, 3, 5) and scores.shape == (0, 3)
  assert model.generate([]) == []


@pytest.mark.slow
@pytest.mark.parametrize('size', [0, -1, 2**70])
def test_sizes_that_mean_nothing(directory, model, size):
  for name in ('batch_size', 'max_input_length'):
    with pytest.raises(mmicl.UserError, match=f'{name} is .*from 1 to'):
      mmicl.load(directory, **{name: size})
  with pytest.raises(mmicl.UserError, match='longest is'):
    model.warm_up(longest=size)


def test_arrays_without_a_vocabulary(directory, model, tmp_path):
  shutil.copytree(directory, tmp_path / 'm')
  (tmp_path / 'm' / model_dir.VOCABULARY).unlink()
  bare = mmicl.load(tmp_path / 'm' / 'checkpoint_7')
  with pytest.raises(mmicl.UserError, match='no spiece.model'):
    bare.generate([TURN])
  prompt = model.prompt(TURN)
  batch = {
    'encoder_input_tokens': prompt.tokens[None],
    'encoder_images': np.stack(prompt.images)[None],
  }
  tokens, scores = bare.decode(batch, num_beams=3, max_new_tokens=5)
  assert tokens.shape == (1, 3, 5) and scores.shape == (1, 3)
  [answer] = model.generate([TURN], num_beams=3, max_new_tokens=5)
  assert tuple(tokens[0, 0, : len(answer.tokens)]) == answer.tokens
  assert scores[0, 0] == pytest.approx(answer.score, abs=1e-5)


def test_a_search_that_no_memory_holds_is_one_sentence(model):
  question, options = 'what is it?', {'max_new_tokens': 10**9}
  with pytest.raises(mmicl.UserError, match='GiB: give a smaller'):
    model.generate([question], **options)
  with pytest.raises(mmicl.UserError, match='GiB: give a smaller'):
    next(model.stream(question, **options))


def test_stop_strings_end_the_answer(model):
  [free] = model.generate(['what is it?'], max_new_tokens=9, min_new_tokens=9)
  texts = [model.tokenizer.decode(free.tokens[: i + 1]) for i in range(9)]
  stop = next(t for t in texts if t.strip())[-1]
  first = next(i for i, t in enumerate(texts) if stop in t)
  [answer] = model.generate(
    ['what is it?'], max_new_tokens=9, min_new_tokens=9, stop=[stop]
  )
  assert answer.tokens == free.tokens[: first + 1]
  assert answer.text.endswith(stop)


@pytest.mark.slow
def test_a_blank_that_is_not_shown_is_no_stop(model):
  """The first piece's blank: its text has none."""
  pieces = dict(enumerate(token_texts(model.tokenizer)))
  questions = ['what is this?', 'what is one?', 'what is red?']
  # The vocabulary decides what is likely, so a draw is looked for.
  for seed in range(50):
    options = {'do_sample': True, 'temperature': 3.0, 'seed': seed}
    options |= {'max_new_tokens': 9, 'min_new_tokens': 9}
    free = model.generate(questions, **options)
    if any(pieces.get(x.tokens[0], '').startswith(' ') for x in free):
      break
  else:
    pytest.fail('no draw begins with a blank')
  stopped = model.generate(questions, stop=[' '], **options)
  for whole, answer in zip(free, stopped, strict=True):
    texts = [model.tokenizer.decode(whole.tokens[: i + 1]) for i in range(9)]
    first = next((i for i, text in enumerate(texts) if ' ' in text), 8)
    assert answer.tokens == whole.tokens[: first + 1]


def test_pieces_have_their_blanks_in_a_vocabulary_without_the_letter_a(
  tmp_path,
):
  train_sentencepiece(['one two ten six'] * 9, tmp_path / 'spiece.model', 30)
  words = Tokenizer(tmp_path / 'spiece.model')
  texts = token_texts(words)
  assert ''.join(texts[i] for i in words.encode('two six')) == ' two six'


@pytest.mark.slow
def test_stream(model):
  pieces = list(model.stream(TURN, max_new_tokens=9))
  assert pieces[-1] == model.generate([TURN], max_new_tokens=9)[0].text
  with pytest.raises(mmicl.UserError, match='num_beams'):
    next(model.stream(TURN, num_beams=2))


def test_another_vocabulary_is_refused(directory, tmp_path):
  shutil.copytree(directory, tmp_path / 'm')
  from mmicl_jax.tokenizer import train_sentencepiece

  other = tmp_path / 'm' / model_dir.VOCABULARY
  train_sentencepiece(['few letters'], other, 40)
  with pytest.raises(mmicl.UserError, match='image token'):
    mmicl.load(tmp_path / 'm')


def test_missing_files(directory, tmp_path):
  with pytest.raises(mmicl.UserError, match='does not exist'):
    mmicl.load(tmp_path / 'none')
  with pytest.raises(mmicl.UserError, match='no checkpoint_'):
    mmicl.load(tmp_path)
  (tmp_path / 'checkpoint_7').mkdir()
  with pytest.raises(mmicl.UserError, match='model.json'):
    mmicl.load(tmp_path)


@pytest.mark.slow
def test_the_text_of_the_qformer(tmp_path):
  """Off by default; on, other words give the same image other tokens."""
  config = tiny_dir.make(tmp_path, instruction=True)
  turns = [TURN, mmicl.Turn('a cat? {0} {image}', IMAGES[:1])]
  plain = mmicl.load(tmp_path)
  first, second = [plain.prompt(turn) for turn in turns]
  assert first.instruction is None and first.image_keys == second.image_keys
  with pytest.raises(mmicl.UserError, match='qformer_vocab.txt is missing'):
    mmicl.load(tmp_path, qformer_text=True)
  words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'dog', 'cat', 'a', '?']
  file = tmp_path / model_dir.QFORMER_VOCABULARY
  file.write_text('\n'.join(words))
  model = mmicl.load(tmp_path / 'checkpoint_7', qformer_text=True)
  prompts = [model.prompt(turn) for turn in turns]
  for prompt, word in zip(prompts, ('dog', 'cat'), strict=True):
    assert prompt.instruction[0] == words.index('[CLS]')
    assert words.index(word) in prompt.instruction
  # Whatever the text's length, warming up has compiled it.
  longest = config.qformer.max_positions
  model.engine.warm_up(Options(max_new_tokens=2), 16, None, longest)
  before = reading.see._cache_size()
  a, b = [model.engine.reader.features([p])[p.image_keys[0]] for p in prompts]
  assert reading.see._cache_size() == before
  [c] = plain.engine.reader.features([first]).values()
  assert np.abs(a - b).max() > 1e-3 and np.abs(a - c).max() > 1e-3
  few = [*words, *(f'w{i}' for i in range(config.qformer.vocab_size))]
  file.write_text('\n'.join(few))
  with pytest.raises(mmicl.UserError, match='leave out qformer_text'):
    mmicl.load(tmp_path, qformer_text=True)


def test_a_blip2_qformer_reads_no_text(directory):
  with pytest.raises(mmicl.UserError, match='reads no text'):
    mmicl.load(directory, qformer_text=True)


def test_warm_up_is_by_default_for_the_longest_prompt(model, monkeypatch):
  asked = []

  def warm_up(*args):
    asked.append(args)
    return len(asked)

  monkeypatch.setattr(model.engine, 'warm_up', warm_up)
  model.warm_up(num_beams=2, stop=['.'])
  model.warm_up(longest=16)
  [(options, longest, stops, words), (_, given, none, _)] = asked
  assert (options.num_beams, longest, given, words) == (2, 1024, 16, 0)
  assert stops is not None and none is None
