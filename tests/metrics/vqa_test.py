"""VQA's normalisers and accuracies, beside recorded ones and by hand."""

import json

import pytest
from score_cases import SCORERS

from mmicl_jax.metrics import vqa_accuracy
from mmicl_jax.metrics.contractions import CONTRACTIONS, VIZWIZ_CONTRACTIONS
from mmicl_jax.metrics.vqa_text import (
  evalai_normal,
  lmms_eval_normal,
  official_normal,
  official_punctuation,
  one_line,
  vlmevalkit_normal,
)


@pytest.mark.parametrize(
  'text, official, lmms_eval, evalai, vlmevalkit',
  [
    ("It's 10.", "it's 10", "it's 10", "it 's 10", "it's 10."),
    ('The  TWO\tdogs', '2 dogs', '2 dogs', '2 dogs', '2 dogs'),
    ('1,,000', '1 000', '1000', '1000', '1 000'),
    ('1,000', '1000', '1000', '1000', '1000'),
    ('and/or, yes', 'and or yes', 'and or yes', 'and or yes', 'and or yes'),
    ('none', '0', '0', '0', '0'),
    ("couldnt've", "couldn't've", "couldn't've", "couldn't've", "couldn't've"),
    ('. ' * 40, *['. . . . . . . .'] * 4),  # only 32 are deleted
    ('a.b 3.5', 'ab 3.5', 'ab 3.5', 'ab 3.5', 'ab 3.5'),
    ('', '', '', '', ''),
  ],
)
def test_normal_forms(text, official, lmms_eval, evalai, vlmevalkit):
  assert official_normal(one_line(text)) == official
  assert lmms_eval_normal(text) == lmms_eval
  assert evalai_normal(text) == evalai
  assert vlmevalkit_normal(text) == vlmevalkit


RECORDED = SCORERS / 'vqa' / 'expected.json'


@pytest.mark.skipif(not RECORDED.is_file(), reason='the record is not here')
def test_recorded_normal_forms():
  rows = json.loads(RECORDED.read_text(encoding='utf-8'))['normalise']
  assert len(rows) > 100
  for row in rows:
    text = row['text']
    assert official_normal(one_line(text)) == row['official']
    punctuation = official_punctuation(one_line(text))
    assert punctuation == row['official_punctuation_only']
    assert evalai_normal(text) == row['lmms_evalai']
    assert lmms_eval_normal(text) == row['lmms_vqav2']
    assert vlmevalkit_normal(text) == row['vlmevalkit']


def test_contractions_are_those_of_the_official_table():
  assert len(CONTRACTIONS) == 114
  assert CONTRACTIONS['dont'] == "don't"
  assert CONTRACTIONS["ow's'at"] == "'ow's'at"
  assert 'lets' not in CONTRACTIONS and 'shes' not in CONTRACTIONS
  assert VIZWIZ_CONTRACTIONS['dont'] == 'don’t'
  assert VIZWIZ_CONTRACTIONS['cant'] == "can't"
  assert VIZWIZ_CONTRACTIONS["hadn'tve"] == 'hadn’t’ve'
  assert VIZWIZ_CONTRACTIONS['mightn’tve'] == 'mightn’t’ve'
  assert "mightn'tve" not in VIZWIZ_CONTRACTIONS


@pytest.mark.parametrize('matches', range(11))
def test_leaving_out_positions_and_distinct_records_is_the_same(matches):
  answers = ['yes'] * matches + ['no'] * (10 - matches)
  by_hand = []
  for i in range(10):
    others = answers[:i] + answers[i + 1 :]
    by_hand.append(min(1, others.count('yes') / 3))
  value = vqa_accuracy.by_position(10, matches)
  assert value == pytest.approx(sum(by_hand) / 10)
  records = [{'answer_id': i} for i in range(10)]
  assert vqa_accuracy.by_record('yes', answers, records) == pytest.approx(value)


def test_equal_records_are_left_out_together():
  answers = ['yes'] * 4 + ['no'] * 6
  records = [{'answer_confidence': 'yes'}] * 3 + [
    {'answer_confidence': 'no'}
  ] * 7
  # For three of the yes one other is left, for the fourth three are left.
  assert vqa_accuracy.by_record('yes', answers, records) == pytest.approx(
    (6 * 1 + 3 * (1 / 3) + 1) / 10
  )
