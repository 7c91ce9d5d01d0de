"""NExT-QA's open answers: what is compared, and how similarities are joined."""

import pytest
from score_cases import items_of, score
from small import write_json, write_lines
from small_wordnet import write_dictionary

from mmicl_jax.metrics import lemmas, nextqa_oe
from mmicl_jax.metrics.lemmas import Lemmatizer, tree_tokens
from mmicl_jax.metrics.wordnet import WordNet

SIMILAR = {('a', 'x'): 0.5, ('a', 'y'): 0.25, ('b', 'x'): 0.1}


def similarity(one, other):
  pair = (min(one, other), max(one, other))
  return 1.0 if one == other else SIMILAR.get(pair, 0.0)


@pytest.mark.parametrize(
  'answer, reference, value',
  [
    ('a b', 'x', 0.5 * 0.1),  # forth; back it is 0.5 alone
    ('x', 'a b', 0.5 * 0.1),
    ('a', 'x y', 0.5 * 0.25),
    ('a q', 'x', 0.5),  # q is like nothing, and passed over
    ('q', 'x', 0),
    ('q', 'q', 1),
    ('', '', 0),
    ('a', '', 0),
  ],
)
def test_the_lower_direction_counts(answer, reference, value, monkeypatch):
  monkeypatch.setattr(nextqa_oe, 'word_tokens', str.split)
  found = nextqa_oe._wups(answer, reference, similarity)
  assert found == pytest.approx(value)


class Words:
  """Instead of the lemmatizer, which needs nltk."""

  def __init__(self, net, tags):
    self.lemmas = str.split


ROWS = {
  # type, reference, prediction, score
  '1_0': ('CW', 'the dog', 'dog the', 1),
  '1_1': ('CH', 'dog', 'mouse', 2 / 3),
  '1_2': ('TP', 'entity', 'dog', 0.5),
  '1_3': ('TN', 'the', 'the', 0),  # a stop word: nothing is left
  '2_0': ('DC', 'dog', 'puppy', 0),
  '2_1': ('DB', 'the dog', 'dog', 1),
  '2_2': ('DO', 'None', 'nan', 1),  # pandas takes None for missing
  '2_3': ('DL', 'entity', 'mouse', 2 / 3),  # the second reference is dog
}


def test_a_small_file(tmp_path, monkeypatch):
  net = WordNet(write_dictionary(tmp_path / 'dict'))
  monkeypatch.setattr(nextqa_oe, 'word_net', lambda: net)
  monkeypatch.setattr(nextqa_oe, 'Lemmatizer', Words)
  monkeypatch.setattr(nextqa_oe, 'word_tokens', str.split)
  data = tmp_path / 'data'
  lines = ['video,qid,answer,type']
  for name, (kind, reference, _, _) in ROWS.items():
    lines.append(f'{name[0]},{name[2]},{reference},{kind}')
  write_json(data / 'add_reference_answer_test.json', {'2': {'3': 'dog'}})
  (data / 'test.csv').write_text('\n'.join(lines))
  (data / 'stopwords.txt').write_text('the\na\n')
  answers = [{'id': name, 'output': row[2]} for name, row in ROWS.items()]
  write_lines(tmp_path / 'answers.jsonl', answers)
  more = ('--per_item', tmp_path / 'items.jsonl')
  got = score('nextqa_oe', data, tmp_path / 'answers.jsonl', *more)
  items = items_of(tmp_path / 'items.jsonl')
  for name, (*_, value) in ROWS.items():
    assert items[name]['score'] == pytest.approx(value), name
  assert items['1_0']['parsed'] == 'dog'
  metrics = got['metrics']
  assert list(metrics)[0] == 'wups' and 'type/TC' not in metrics
  mean = sum(value for *_, value in ROWS.values()) / len(ROWS)
  assert metrics['wups'] == pytest.approx(100 * mean)
  assert metrics['type/TN'] == metrics['group/T'] == pytest.approx(25)
  assert metrics['group/D'] == pytest.approx(100 * (0 + 1 + 1 + 2 / 3) / 4)


@pytest.mark.parametrize(
  'text, tokens',
  [
    ("the dogs don't run.", ['the', 'dogs', 'do', "n't", 'run', '.']),
    ("it's: (ok) 3.5?", ['it', "'s", ':', '(', 'ok', ')', '3.5', '?']),
    ('1,000, or 2', ['1,000', ',', 'or', '2']),
    ("'tis cannot gonna", ["'t", 'is', 'can', 'not', 'gon', 'na']),
    (
      'say "hi"--“no”...',
      ['say', '``', 'hi', "''", '--', '“', 'no', '”', '...'],
    ),
    ('', []),
  ],
)
def test_tokens_of_pywsd(text, tokens):
  assert tree_tokens(text) == tokens


@pytest.fixture
def lemmatizer(tmp_path):
  pytest.importorskip('nltk', reason='nltk is not installed: extra wordnet')
  net = WordNet(write_dictionary(tmp_path / 'dict'))
  tags = {'runs': 'VBZ', 'jogging': 'VBG', 'under': 'IN', 'mice': 'IN'}
  return Lemmatizer(net, tags)


def test_lemmas(lemmatizer):
  """By the tag, the shortest; or else the stem; or else the word as it is.

  What is tagged as a preposition counts as a noun.
  """
  found = lemmatizer.lemmas('Mice RUNS jogging glasses under puppys zxqvs')
  assert found == ('mouse', 'run', 'jog', 'glass', 'under', 'puppy', 'zxqvs')


def test_a_text_of_two_sentences_may_stay_whole(monkeypatch):
  monkeypatch.setattr(lemmas, '_has_punkt', lambda: False)
  assert lemmas.unsplit('He ran. She did.') and not lemmas.unsplit('He ran.')
  assert tree_tokens('He ran. OK.') == ['He', 'ran.', 'OK', '.']
