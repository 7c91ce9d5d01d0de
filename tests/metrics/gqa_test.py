"""GQA: consistency, distribution and choices, by hand."""

import pytest
from small import write_json
from small_benchmarks import SMALL

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.table import scorer_of

GQA = scorer_of('gqa')


def question(answer, entailed=(), group='x', **more):
  return {
    'question': 'Is it  red?',
    'answer': answer,
    'isBalanced': True,
    'semantic': [],
    'entailed': list(entailed),
    'groups': {'global': group},
    'types': {'structural': 'query', 'semantic': 'obj', 'detailed': 'a'},
  } | more


def scored(folder, questions, answers, choices=None, mode='official'):
  write_json(folder / 'questions.json', questions)
  if choices is not None:
    write_json(folder / 'choices.json', choices)
  return GQA.score(GQA.read(folder), answers, mode)


def test_consistency_is_of_what_right_questions_entail(tmp_path):
  questions = {
    '1': question('a', ['1', '2', '3']),
    '2': question('b', ['3']),
    '3': question('c', isBalanced=False),
  }
  found = scored(tmp_path, questions, {'1': 'a', '2': 'b', '3': 'x'})
  assert 'binary' not in found.metrics and found.metrics['open'] == 100
  assert found.metrics['consistency'] == 25  # of 1: half, of 2: nothing
  assert found.metrics['accuracy'] == 100
  wrong = scored(tmp_path, questions, {'1': '', '2': '', '3': 'c'})
  assert wrong.metrics['consistency'] == 0 and not wrong.notes
  part = scored(tmp_path, questions, {'1': 'a', '2': 'b'})
  assert 'consistency' not in part.metrics and part.notes


def test_no_consistency_without_the_entailed_questions(tmp_path):
  questions = {'1': question('a', ['9']), '2': question('b')}
  found = scored(tmp_path, questions, {'1': 'a', '2': 'b'})
  assert 'consistency' not in found.metrics and '9' in found.notes[0]


def test_distribution_by_hand(tmp_path):
  """Group x: 2 a, 1 b; told 3 a: 1/2 + 1 = 1.5, counted three times of four."""
  questions = {
    '1': question('a'),
    '2': question('a'),
    '3': question('b'),
    '4': question('c', group='y'),
    '5': question('d', group=None),
  }
  answers = dict.fromkeys('123', 'a') | {'4': 'c', '5': ''}
  found = scored(tmp_path, questions, answers)
  assert found.metrics['distribution'] == pytest.approx(1.5 * 3 / 4 / 100)
  alone = scored(tmp_path, {'5': questions['5']}, {'5': 'd'})
  assert 'distribution' not in alone.metrics and alone.notes


def test_words_and_steps_are_counted_as_officially(tmp_path):
  steps = [
    ('select', 'cat (1)'),
    ('exist', '?'),
    ('verify', 'existing'),  # any "exist" in the line
    ('query', 'name'),
    ('query', 'color'),
    ('choose name', 'a|b'),
  ]
  program = [{'operation': a, 'argument': b} for a, b in steps]
  found = scored(tmp_path, {'1': question('a', semantic=program)}, {'1': 'a'})
  assert found.metrics['words/3'] == found.metrics['steps/2'] == 100


def test_what_is_common_is_a_colour_a_material_or_a_shape(tmp_path):
  types = {'structural': 'query', 'semantic': 'obj', 'detailed': 'twoCommon'}
  questions = {'1': question('color', types=types), '2': question('b')}
  choices = {
    '1': {'valid': ['b'], 'plausible': ['b']},
    '2': {'valid': ['b', 'c'], 'plausible': ['c']},
  }
  answers = {'1': 'shape', '2': 'b'}
  found = scored(tmp_path, questions, answers, choices)
  assert found.metrics['validity'] == 100
  assert found.metrics['plausibility'] == 50
  del choices['2']
  with pytest.raises(UserError, match="choices.json has no '2'"):
    scored(tmp_path, questions, answers, choices)


@pytest.mark.parametrize(
  'output, official, lmms_eval, lavis',
  [
    ('two dogs', 100, 100, 100),
    ('Two Dogs.', 0, 100, 100),
    ('2 dogs', 0, 0, 100),
    (' two dogs', 0, 0, 100),
    ('the two dogs', 0, 0, 100),
  ],
)
def test_who_ignores_what(tmp_path, output, official, lmms_eval, lavis):
  for mode, value in zip(GQA.modes, (official, lmms_eval, lavis), strict=True):
    found = scored(
      tmp_path, {'1': question('two dogs')}, {'1': output}, mode=mode
    )
    assert found.metrics['accuracy'] == value, mode


def test_questions_that_are_not_balanced_count_elsewhere_only(tmp_path):
  SMALL['gqa'](tmp_path, 'official')
  read = GQA.read(tmp_path)
  with pytest.raises(UserError, match='isBalanced'):
    GQA.score(read, {'2': 'left'}, 'official')
  assert GQA.score(read, {'2': 'left'}, 'lavis').metrics == {'accuracy': 100}
