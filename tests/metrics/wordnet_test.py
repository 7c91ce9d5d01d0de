"""WordNet's files are read, and similar words are as similar as for NLTK."""

import zipfile

import pytest
from score_cases import run
from small_captions import write_lines
from small_wordnet import write_dictionary

from mmicl_jax.errors import UserError
from mmicl_jax.metrics import wordnet
from mmicl_jax.metrics.wordnet import WordNet, word_net


@pytest.fixture
def net(tmp_path):
  return WordNet(write_dictionary(tmp_path / 'dict'))


def test_base_forms(net):
  assert net.base_forms('dogs', 'n') == ['dog']
  assert net.base_forms('mice', 'n') == ['mouse']
  assert net.base_forms('mouses', 'n') == ['mouse']
  assert net.base_forms('jogs', 'v') == ['jog'] and not net.base_forms('x', 'a')


def test_the_first_sense_is_a_noun_s(net):
  assert net.first_sense('DOGS') == ('n', '00000003')
  assert net.first_sense('ran') == ('v', '00000001')
  assert net.first_sense('cat') is None


@pytest.mark.parametrize(
  'one, other, value',
  [
    ('dog', 'dog', 1),
    ('dog', 'mouse', 2 * 2 / (3 + 3)),  # below animal, of depth 2
    ('entity', 'mouse', 2 * 1 / (1 + 3)),
    # A pug is a dog, of depth 3, and a place, of depth 2.
    ('pug', 'dog', 2 * 3 / (4 + 3)),
    # By the shortest way to the top, dog and pug are as low: the first by name
    # is taken, and its depth is by the longest way.
    ('puppy', 'pug', 2 * 3 / (5 + 4)),
    ('pug', 'puppy', 2 * 4 / (4 + 5)),  # but the first of the two comes first
    ('place', 'mouse', 2 * 1 / (2 + 3)),  # places are instances of an entity
    # Verbs have a root above all: it comes before "run", which is as low.
    ('jog', 'think', 2 * 1 / (3 + 2)),
    ('run', 'jog', 2 * 1 / (1 + 2)),
    ('jog', 'run', 2 * 1 / (3 + 2)),
    ('dog', 'run', 2 * 1 / (4 + 2)),
  ],
)
def test_similarity(net, one, other, value):
  found = net.similarity(net.first_sense(one), net.first_sense(other))
  assert found == pytest.approx(value)


def test_a_zipped_dictionary_is_read(net, tmp_path):
  """As NLTK's downloader leaves it."""
  path = tmp_path / 'wordnet.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    for file in (tmp_path / 'dict').iterdir():
      archive.write(file, f'wordnet/{file.name}')
  zipped = WordNet(zipfile.Path(path, 'wordnet/'))
  assert zipped.first_sense('mice') == net.first_sense('mice')


def test_another_version_or_a_missing_file_is_named(tmp_path):
  folder = write_dictionary(tmp_path / 'dict')
  (folder / 'noun.exc').unlink()
  with pytest.raises(UserError, match='noun.exc could not be read'):
    WordNet(folder).base_forms('dog', 'n')
  (folder / 'index.adv').write_text('WordNet 3.1 Copyright 2011')
  with pytest.raises(UserError, match='is not WordNet 3.0'):
    WordNet(folder)


def test_wnhome_names_the_dictionary(tmp_path, monkeypatch):
  monkeypatch.setenv('WNHOME', str(tmp_path))
  write_dictionary(tmp_path / 'dict')
  word_net.cache_clear()
  assert word_net().first_sense('dog') == ('n', '00000003')
  word_net.cache_clear()


def test_without_wordnet_it_is_one_sentence(tmp_path, monkeypatch):
  monkeypatch.setattr(wordnet, '_folders', lambda: iter(()))
  word_net.cache_clear()
  (tmp_path / 'test.csv').write_text('video,answer,qid,type\n1,dog,0,CW\n')
  (tmp_path / 'stopwords.txt').write_text('the\n')
  write_lines(tmp_path / 'answers.jsonl', [{'id': '1_0', 'output': 'dog'}])
  status, out, err = run(
    *('--benchmark', 'nextqa_oe', '--data', tmp_path, '--json'),
    *('--predictions', tmp_path / 'answers.jsonl'),
  )
  assert (status, out, err.count('\n')) == (2, '', 1)
  assert 'WordNet' in err and 'wordnet]' in err
