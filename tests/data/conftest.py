"""The vocabulary of the loader's tests."""

import pytest

from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('vocabulary') / 'spiece.model'
  train_sentencepiece(['image 0 is . which one? 0123456789'] * 5, path, 60)
  return Tokenizer(path)
