"""Label words and the demo's vocabulary."""

import numpy as np
import pytest
import sentencepiece

from mmicl_jax.demo import data, fonts, words


def test_the_words_of_one_item_differ_and_all_are_used():
  rng = np.random.default_rng(0)
  drawn = [words.draw_words(rng) for _ in range(600)]
  assert all(a != b for a, b in drawn)
  assert {word for pair in drawn for word in pair} == set(words.LABELS)


def test_no_label_is_a_word_of_another_task():
  labels = set(words.LABELS)
  assert len(labels) == len(words.LABELS)
  for task in data.TASKS:
    if 'icl_' not in task and 'composition' not in task:
      for i in range(5):
        item = data.make_item(task, 0, i)
        text = f'{item.example.inputs} {item.example.targets}'
        assert not labels & set(text.replace(',', ' ').split())


@pytest.fixture(scope='module')
def model() -> sentencepiece.SentencePieceProcessor:
  return sentencepiece.SentencePieceProcessor(
    model_proto=data.demo_vocabulary()
  )


@pytest.mark.slow
def test_every_word_is_one_piece(model):
  assert (model.pad_id(), model.eos_id(), model.unk_id()) == (0, 1, 2)
  assert model.vocab_size() < 1300
  trained, _ = fonts.characters()
  for word in (*words.LABELS, 'image', 'which', 'yes', *trained):
    assert model.encode(word, out_type=str) == [f'▁{word}']


@pytest.mark.slow
def test_prompts_cost_one_piece_a_word_and_read_back(model):
  for task in data.TASKS:
    for i in range(3):
      target = data.make_item(task, 5, i, 'train').example.targets
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
