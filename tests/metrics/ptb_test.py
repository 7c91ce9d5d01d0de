"""Tokens equal those of Stanford's tokenizer as pycocoevalcap calls it.

ptb_cases.json holds captions of ours and what the Java program made of them.
"""

import json
import random
from pathlib import Path

import pytest
from score_cases import SCORERS

from mmicl_jax.metrics import ptb
from mmicl_jax.metrics.ptb import tokenize
from mmicl_jax.metrics.ptb_letters import is_digit, is_letter, is_letter_or_mark

OWN = json.loads(Path(__file__).with_name('ptb_cases.json').read_text('utf-8'))
RECORDED = SCORERS / 'captions'
recorded = pytest.mark.skipif(
  not RECORDED.is_dir(), reason='the recorded tokens are not here'
)


@pytest.mark.parametrize('caption, tokens', OWN)
def test_our_own_captions(caption, tokens):
  assert tokenize(caption) == tokens


@recorded
def test_the_recorded_captions():
  text = (RECORDED / 'tokens.jsonl').read_text('utf-8')
  rows = [json.loads(line) for line in text.split('\n') if line]
  assert len(rows) >= 250
  for row in rows:
    wanted = row['tokens'].split(' ') if row['tokens'] else []
    assert tokenize(row['caption']) == wanted, row['caption']


@recorded
def test_the_recorded_words():
  sweep = json.loads((RECORDED / 'word_sweep.json').read_text('utf-8'))
  for word, tokens in sweep['changed'].items():
    assert tokenize(f'the {word} is') == ['the', *tokens.split(), 'is']
  kept = sweep['keeps_period']
  for word in kept['always']:
    assert tokenize(f'see {word}. and') == ['see', f'{word.lower()}.', 'and']
    assert tokenize(f'see {word}.') == ['see', f'{word.lower()}.']
  for word in kept['only_before_a_digit']:
    assert tokenize(f'see {word}. 5') == ['see', f'{word.lower()}.', '5']
    assert tokenize(f'see {word}. and') == ['see', word.lower(), 'and']


@recorded
def test_line_breaks_are_blanks():
  rows = json.loads((RECORDED / 'line_breaks.json').read_text('utf-8'))
  for row in rows.values():
    assert tokenize(row['captions'][0]) == ['first', 'part']


def test_plain_captions_need_no_scanner():
  """The short way gives what the rules give."""
  words = ['A', 'dog', 'cannot', 'St', 'I', 'gonna', 'ca', 'no', 'Tex', 'tex']
  drawn = random.Random(0)
  for _ in range(500):
    some = drawn.choices(words, k=drawn.randint(1, 4))
    caption = drawn.choice([' ', ', ']).join(some)
    caption += drawn.choice(['', '.', ' .', ' ', '. '])
    assert ptb._PLAIN.fullmatch(caption)
    scanned = [t for t in ptb._scanned(caption) if t not in ptb._REMOVED]
    assert tokenize(caption) == scanned, caption


@pytest.mark.parametrize('text', ['', ' ', '.', '?', '\n', '\ud83d', '\0', '"'])
def test_nothing_is_left(text):
  assert tokenize(text) == []


def test_letters_are_those_of_unicode_6():
  assert all(map(is_letter, 'aZéßı中')) and not any(map(is_letter, '1\u0301ࡠ𝐀'))
  assert is_letter_or_mark('\u0301') and is_letter_or_mark('\xad')
  assert is_digit('٣') and not is_digit('²') and not is_digit('𝟏')
