"""Answers of a choice or a word: what is understood, and what is refused."""

import csv

import pytest
from score_cases import run
from small import write_json, write_lines
from small_benchmarks import SMALL

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.table import scorer_of


@pytest.fixture
def small(tmp_path):
  """Reads a small benchmark: (scorer, its annotations)."""

  def make(name, mode='official'):
    SMALL[name](tmp_path, mode)
    return scorer_of(name), scorer_of(name).read(tmp_path)

  return make


def right(scorer, read, name, outputs, mode='official'):
  """Which of the outputs are right for one item."""
  return [
    output
    for output in outputs
    if scorer.score(read, {name: output}, mode).per_item[0]['score'] == 1
  ]


# ScienceQA


def test_scienceqa_reads_numbers_as_python_does(small):
  outputs = [
    '1',
    ' 1 ',
    '+1',
    '01',
    '1.0',
    '-2',
    'b',
    '',
    '9' * 5000,
    '١',
    '0x1',
  ]
  found = right(*small('scienceqa'), '1', outputs)
  assert found == ['1', ' 1 ', '+1', '01', '١']


def test_scienceqa_letters_of_lmms_eval(small):
  outputs = ['B', 'b', ' b\n', 'B. No', 'b. No', 'B.', 'B, no', 'BB.', '', 'A.']
  found = right(*small('scienceqa'), '1', outputs, 'lmms-eval')
  assert found == ['B', 'b', ' b\n', 'B. No', 'B.']


def test_scienceqa_groups(small):
  """Item 1 has a hint, 2 an image, 0 neither; grades are 5 to 7."""
  scorer, read = small('scienceqa')
  found = scorer.score(read, {'0': '0', '1': '1', '2': '0'}, 'official')
  assert found.metrics == {
    'accuracy': pytest.approx(200 / 3),
    'natural': pytest.approx(200 / 3),
    'has_text': 100,
    'has_image': 0,
    'no_context': 100,
    'grade_1_6': 100,
    'grade_7_12': 0,
    'topic/physics': pytest.approx(200 / 3),
  }
  assert 'social, language' in found.notes[0]


# IconQA, NLVR2, VSR


def test_iconqa_takes_equal_strings_only(small):
  scorer, read = small('iconqa')
  assert right(scorer, read, '2', ['2', ' 2', '2.0', 'two']) == ['2']
  found = scorer.score(read, {'1': '0', '4': '3:01'}, 'official')
  assert found.metrics['skill/time'] == found.metrics['task/choose_img'] * 0.5
  assert 'task/fill_in_blank' in found.notes[0]
  found = scorer.score(read, {'1': '0', '4': '3:01'}, 'lmms-eval')
  assert found.metrics == {'task/fill_in_blank': 75}
  assert [item['id'] for item in found.per_item] == ['4']
  assert scorer.score(read, {'1': '0'}, 'lmms-eval').notes


def test_iconqa_needs_each_problem_and_its_skills(tmp_path, small):
  scorer, _ = small('iconqa')
  write_json(tmp_path / 'pid_splits.json', {'test': ['7']})
  with pytest.raises(UserError, match="'7'"):
    scorer.read(tmp_path)
  write_json(tmp_path / 'pid_splits.json', {'test': ['1']})
  assert scorer.read(tmp_path).ids == ['1']
  write_json(tmp_path / 'pid2skills.json', {'2': []})
  with pytest.raises(UserError, match="pid2skills.json has no '1'"):
    scorer.read(tmp_path)


def test_nlvr2_answers_are_cells_of_a_line(small):
  scorer, read = small('nlvr2')
  outputs = ['True', 'TRUE', 'true ', 'True,1', ' True', 'True.', 'yes', '1']
  found = right(scorer, read, 'test1-0-0-0', outputs)
  assert found == ['True', 'TRUE', 'true ', 'True,1']


def test_nlvr2_consistency_is_of_whole_sentences(small):
  scorer, read = small('nlvr2')
  answers = dict.fromkeys(read.ids, 'True')  # the second one is false
  found = scorer.score(read, answers, 'official')
  assert found.metrics['consistency'] == 0.5
  del answers['test1-0-0-0']
  assert scorer.score(read, answers, 'official').metrics['consistency'] == 1
  found = scorer.score(read, {'test1-0-1-0': 'True'}, 'official')
  assert found.metrics == {'accuracy': 0} and found.notes


def test_vsr_words_for_true(small):
  outputs = ['1', 'true', 'TRUE.', '1.', ' true', 'True..', 'yes', '01', '']
  assert right(*small('vsr'), '1', outputs) == ['1', 'true', 'TRUE.', '1.']


def test_vsr_relations_in_two_categories_count_in_the_later(tmp_path, small):
  scorer, read = small('vsr')
  path = tmp_path / 'rel_meta_category_dict.txt'
  path.write_text('A: on, near\nB: near, at\n')
  read = scorer.read(tmp_path)
  found = scorer.score(read, {'0': '0', '1': '0'}, 'official').metrics
  assert found['category/A'] == 1 and found['category/B'] == 0
  path.unlink()
  found = scorer.score(scorer.read(tmp_path), {'0': '0'}, 'official')
  assert found.metrics == {'accuracy': 1, 'relation/on': 1}
  path.write_text('A on\n')
  with pytest.raises(UserError, match='line 1'):
    scorer.read(tmp_path)


def test_vsr_ratios_without_a_denominator_are_nought(small):
  scorer, read = small('vsr')
  found = scorer.score(read, {'0': 'No.', '2': 'Perhaps'}, 'vlmevalkit')
  assert found.metrics == {
    'accuracy': 0.5,
    'precision': 0,
    'recall': 0,
    'f1': 0,
  }


def test_vsr_precision_and_recall(small):
  """Two said yes, one of them rightly; of two true ones it was one."""
  answers = {'0': 'Yes', '1': 'Yes', '2': 'no', '3': 'True'}
  scorer, read = small('vsr')
  found = scorer.score(read, answers, 'vlmevalkit').metrics
  assert set(found.values()) == {0.5} and len(found) == 4


# Videos


def table(path, heading, *rows):
  path.parent.mkdir(exist_ok=True)
  with path.open('w', newline='') as file:
    csv.writer(file).writerows([heading.split(), *rows])


def test_ivqa_gives_half_for_each_of_two(tmp_path):
  heading = 'answer1 answer2 answer3 answer4 answer5'
  table(tmp_path / 'a.csv', heading, ['dog', 'cat', 'dog', 'dog', ''])
  ivqa = scorer_of('ivqa')
  read = ivqa.read(tmp_path)
  values = {'dog': 1, 'cat': 0.5, 'Dog': 0, '': 0}
  for output, value in values.items():
    found = ivqa.score(read, {'0': output}, 'official')
    assert found.metrics == {'accuracy': value}
  write_json(tmp_path / 'vocab.json', {'ant': 1, 'cat': 0})
  read = ivqa.read(tmp_path)
  assert ivqa.score(read, {'0': 'dog'}, 'official').metrics == {'accuracy': 0}
  found = ivqa.score(read, {'0': [0.5, 1.0]}, 'official')  # of cat, ant
  assert found.metrics == {'accuracy': 0, 'accuracy_at_10': 0.5}


def test_the_eleventh_answer_is_too_late(tmp_path):
  words = [f'w{i}' for i in range(12)]
  write_json(tmp_path / 'vocab.json', {w: i for i, w in enumerate(words)})
  rows = [['w9', 'a', '2'], ['w10', 'b', '2']]
  table(tmp_path / 'test.csv', 'answer id type', *rows)
  scorer = scorer_of('msrvtt_qa')
  read = scorer.read(tmp_path)
  scores = dict.fromkeys(read.ids, [0.0] * 12)
  found = scorer.score(read, scores, 'official').metrics
  assert found == {'accuracy': 0, 'accuracy_at_10': 0.5, 'type/color': 0}


def test_ranked_answers_need_the_vocabulary(tmp_path):
  table(tmp_path / 'data' / 'test.csv', 'answer id type', ['dog', 'a', '0'])
  write_lines(tmp_path / 'a.jsonl', [{'id': 'a', 'scores': [1]}])
  status, out, err = run(
    *('--benchmark', 'msvd_qa', '--data', tmp_path / 'data'),
    *('--predictions', tmp_path / 'a.jsonl'),
  )
  assert (status, out) == (2, '') and 'line 1' in err and 'candidates' in err


@pytest.mark.parametrize(
  'rows, vocabulary, named',
  [
    ([['dog', 'a', '6']], None, "type is '6'"),
    ([['dog', 'a', 'what']], None, "type is 'what'"),
    ([['dog', 'a', '1'], ['dog', 'a', '1']], None, "'a' twice"),
    ([['dog', 'a', '1']], {'dog': 1}, 'vocab.json does not number'),
    ([['dog', 'a', '1']], {'dog': '0'}, 'vocab.json'),
  ],
)
def test_faulty_video_files_are_refused(tmp_path, rows, vocabulary, named):
  table(tmp_path / 'test.csv', 'answer id type', *rows)
  if vocabulary is not None:
    write_json(tmp_path / 'vocab.json', vocabulary)
  with pytest.raises(UserError, match=named):
    scorer_of('msvd_qa').read(tmp_path)


def test_nextqa_answers_are_a_digit(small):
  outputs = ['1', ' 1', '1.', '01', '5', 'choice 1', '', '²', '١']
  assert right(*small('nextqa_mc'), '24_1', outputs) == ['1']


def test_nextqa_types_are_counted_in_groups(small):
  """TP counts as TN."""
  scorer, read = small('nextqa_mc')
  answers = {'24_0': '0', '24_1': '1', '24_2': '0'}
  assert scorer.score(read, answers, 'official').metrics == {
    'accuracy': pytest.approx(200 / 3),
    'type/CW': 100,
    'type/TN': 50,
    'group/C': 100,
    'group/T': 50,
  }


@pytest.mark.parametrize(
  'kind, answer, named', [('DB', '0', "'DB'"), ('CW', '5', "'5'")]
)
def test_faulty_rows_of_nextqa_are_refused(tmp_path, kind, answer, named):
  row = ['24', '1', kind, answer, *'abcde']
  table(tmp_path / 'val.csv', 'video qid type answer a0 a1 a2 a3 a4', row)
  with pytest.raises(UserError, match=f'line 2.*{named}'):
    scorer_of('nextqa_mc').read(tmp_path)


# miniImageNet


def test_miniimagenet_names_of_any_case(small):
  outputs = ['malamute', ' Malamute\n', 'a malamute', 'lion', '']
  found = right(*small('miniimagenet'), '1', outputs)
  assert found == ['malamute', ' Malamute\n']


@pytest.mark.parametrize(
  'row, named',
  [
    ({'identifier': 'dev-0', 'label': 'True'}, 'not like test1-0-1-0'),
    ({'identifier': 'dev-0-0-0', 'label': '1'}, 'neither True nor False'),
  ],
)
def test_faulty_pairs_of_nlvr2_are_refused(tmp_path, row, named):
  write_lines(tmp_path / 'dev.json', [row])
  with pytest.raises(UserError, match=named):
    scorer_of('nlvr2').read(tmp_path)
