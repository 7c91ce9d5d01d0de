"""Label words and the demo's vocabulary."""

import numpy as np
import pytest
import sentencepiece

from mmicl_jax.demo import data, words


def test_no_word_is_in_both_splits():
  train, heldout = map(words.label_words, ('train', 'heldout'))
  assert not set(train) & set(heldout)
  total = len(train) + len(heldout)
  assert total == 75 * 74 - len(words.NOT_LABELS & set(all_words()))
  assert 0.08 < len(heldout) / total < 0.12


def all_words() -> list[str]:
  return [a + b for a in words.SYLLABLES for b in words.SYLLABLES]


def test_words_of_one_item_share_no_syllable():
  rng = np.random.default_rng(0)
  for _ in range(300):
    a, b = words.draw_words('heldout', rng)
    assert not words.syllables(a) & words.syllables(b)
    assert words.held_out(a) and words.held_out(b)


def test_no_label_is_a_word_of_another_task():
  labels = {w for s in ('train', 'heldout') for w in words.label_words(s)}
  for task in data.TASKS:
    if not task.startswith('icl_words'):
      for i in range(20):
        item = data.make_item(task, 0, i)
        text = f'{item.example.inputs} {item.example.targets}'
        assert not labels & set(text.replace(',', ' ').split())


@pytest.fixture(scope='module')
def model() -> sentencepiece.SentencePieceProcessor:
  return sentencepiece.SentencePieceProcessor(
    model_proto=data.demo_vocabulary()
  )


def test_every_syllable_and_word_is_one_piece(model):
  assert (model.pad_id(), model.eos_id(), model.unk_id()) == (0, 1, 2)
  assert model.vocab_size() < 350
  for word in (*words.label_words('heldout'), *words.label_words('train')):
    pieces = model.encode(word, out_type=str)
    assert pieces == ['▁' + word[:2], word[2:]], pieces
  for word in (*words.DIGITS, 'image', 'handwritten', 'temple'):
    assert len(model.encode(word)) == 1


def test_prompts_cost_one_piece_a_word_and_read_back(model):
  for task in data.TASKS:
    for i in range(8):
      target = data.make_item(task, 5, i, 'heldout').example.targets
      ids = model.encode(target)
      assert model.decode(ids) == target
      assert model.unk_id() not in ids
      assert len(ids) <= 2 * len(target.replace(',', ' ,').split())


def test_other_text_is_spelt_not_lost(model):
  text = 'Who built Qxw-42 (really)?'
  assert model.decode(model.encode(text)) == text


def test_vocabulary_repeats():
  few = {'per_task': 5}
  assert data.demo_vocabulary(**few) == data.demo_vocabulary(**few)
