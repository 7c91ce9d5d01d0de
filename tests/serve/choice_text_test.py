"""Tokens become text: stop strings, and log-probabilities that join to it."""

import math

import pytest
import tiny_dir

from mmicl_jax.serve.answers import Head
from mmicl_jax.serve.choice_text import CandidateText, ChoiceText, token_entry
from mmicl_jax.serve.jobs import NewTokens
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece(tiny_dir.TEXTS, path, 50)
  return Tokenizer(path)


def feed(text, ids, step=1):
  """Adds tokens some at a time; returns the parts of the text and entries."""
  parts, entries = [], []
  for i in range(0, len(ids), step):
    own = tuple(ids[i : i + step])
    text.add(NewTokens(0, own, (-0.5,) * len(own)))
    parts.append(text.new_text())
    entries += text.new_entries()
  text.finish('length')
  parts.append(text.new_text())
  return parts, entries + text.new_entries()


@pytest.mark.parametrize('step', [1, 2, 5, 100])
@pytest.mark.parametrize(
  'stops, keep, shown, stopped_by',
  [
    ((), False, 'the red dog and the cat', None),
    (('and',), False, 'the red dog ', 'and'),
    (('and',), True, 'the red dog and', 'and'),
    (('g a', 'red'), False, 'the ', 'red'),
    (('d dog and t',), False, 'the re', 'd dog and t'),
    (('the',), False, '', 'the'),
    (('cat.', 'catty'), False, 'the red dog and the cat', None),
  ],
)
def test_stop_strings(tokenizer, stops, keep, shown, stopped_by, step):
  ids = tokenizer.encode('the red dog and the cat')
  text = ChoiceText(tokenizer, stops, keep)
  parts, entries = feed(text, ids, step)
  assert ''.join(parts) == shown
  assert ''.join(entry['token'] for entry in entries) == shown
  assert text.stopped_by == stopped_by
  assert text.reason == ('length' if stopped_by is None else 'stop')
  assert all(e['bytes'] == list(e['token'].encode()) for e in entries)


def test_text_is_held_back_only_while_a_stop_may_begin(tokenizer):
  ids = tokenizer.encode('the red dog')
  text = ChoiceText(tokenizer, ('dogs',))
  parts, _ = feed(text, ids)
  assert parts[-1] == 'dog' and ''.join(parts[:-1]) == 'the red '


def test_the_end_token_has_no_text(tokenizer):
  ids = [*tokenizer.encode('a dog'), tokenizer.eos_id]
  text = ChoiceText(tokenizer)
  _, entries = feed(text, ids)
  assert text.count == len(ids) and len(entries) == len(ids) - 1


def test_likeliest_tokens_are_named(tokenizer):
  [dog, *_] = tokenizer.encode('dog')
  top = (((dog, -0.1), (tokenizer.eos_id, -math.inf)),)
  text = ChoiceText(tokenizer)
  text.add(NewTokens(0, (dog,), (-0.1,), top))
  text.finish('stop')
  [entry] = text.new_entries()
  first, end = entry['top_logprobs']
  assert first['token'] == entry['token'] and end['token'] == '</s>'
  assert end['logprob'] == -9999.0


def test_a_candidate_is_given_back_as_it_was_written(tokenizer):
  for words, pieces in (('a dog', True), ('a  DOG', False)):
    ids = tokenizer.encode(words)
    text = CandidateText(words, tokenizer, ids, [-0.5] * len(ids))
    entries = text.new_entries()
    assert text.new_text() == words and text.reason == 'stop'
    assert ''.join(entry['token'] for entry in entries) == words
    assert (len(entries) == len(ids)) == pieces


@pytest.mark.parametrize('count', [0, 1])
def test_completions_name_the_chosen_token_beside_the_likeliest(count):
  """As OpenAI's: up to logprobs + 1 of them."""
  tops = [token_entry('dog', -0.2)][:count]
  chosen = {**token_entry('cat', -2.0), 'top_logprobs': tops}
  likely = {**token_entry('dog', -0.2), 'top_logprobs': tops}
  head = Head('cmpl-1', 0, 'tiny', '', chat=False)
  found = head.log_probs([chosen, likely], 0)['top_logprobs']
  others = {'dog': -0.2} if count else {}
  assert found == [{**others, 'cat': -2.0}, {'dog': -0.2}]
