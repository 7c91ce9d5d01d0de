"""POPE, VQAv2, VizWiz, A-OKVQA, WebSRC, VL-ICL: what answers get, by hand."""

import json

import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.table import scorer_of


def scored(name, folder, files, outputs, mode):
  """files: {name: JSON value, or text}; outputs: texts by id."""
  for path, value in files.items():
    (folder / path).parent.mkdir(exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    (folder / path).write_text(text, encoding='utf-8')
  scorer = scorer_of(name)
  return scorer.score(scorer.read(folder), outputs, mode)


@pytest.mark.parametrize(
  'output, official, lmms_eval, vlmevalkit',
  [
    ('No', 'no', 'no', 'No'),
    ('NO', 'yes', 'no', 'No'),
    ('no!', 'yes', 'no!', 'No'),
    ('none', 'yes', 'none', 'Unknown'),
    ('', 'yes', '', 'Unknown'),
    (' Yes\n', 'yes', 'yes', 'Yes'),
    ('No, there is', 'no', 'no, there is', 'No'),
    ('I see no dog.', 'no', 'i see no dog.', 'No'),
    ('A dog. not a cat', 'yes', 'a dog. not a cat', 'Unknown'),
    ('It is\nno dog', 'yes', 'it is\nno dog', 'No'),
    ('yes or no', 'no', 'yes or no', 'Unknown'),
  ],
)
def test_pope_reads_yes_and_no(
  output, official, lmms_eval, vlmevalkit, tmp_path
):
  files = {'coco_pope_random.json': {'question_id': 1, 'label': 'no'}}
  for mode, parsed in (
    ('official', official),
    ('lmms-eval', lmms_eval),
    ('vlmevalkit', vlmevalkit),
  ):
    one = scored('pope', tmp_path, files, {'random/1': output}, mode)
    assert one.per_item == [
      {
        'id': 'random/1',
        'score': float(parsed.lower() == 'no'),
        'parsed': parsed,
      }
    ]


def test_popes_measures(tmp_path):
  """Labels: three times yes and once no in one subset, no in the other."""
  labels = {'random': ['yes', 'yes', 'yes', 'no'], 'popular': ['no']}
  files = {
    f'gqa_pope_{subset}.json': '\n'.join(
      json.dumps({'question_id': i, 'label': label})
      for i, label in enumerate(all_of)
    )
    for subset, all_of in labels.items()
  }
  outputs = {
    **{'random/0': 'yes', 'random/1': 'no', 'random/2': 'maybe'},
    **{'random/3': 'yes', 'popular/0': 'no'},
  }
  metrics = scored('pope', tmp_path, files, outputs, 'official').metrics
  assert metrics['random/accuracy'] == 0.5  # 'maybe' is yes
  assert metrics['random/precision'] == metrics['random/recall'] == 2 / 3
  assert metrics['random/yes_ratio'] == 0.75
  assert metrics['popular/f1'] == 0
  metrics = scored('pope', tmp_path, files, outputs, 'lmms-eval').metrics
  assert metrics['random/accuracy'] == 0.25
  assert metrics['random/recall'] == 0.5  # 'maybe' is no miss
  assert metrics['random/yes_ratio'] == 0.75  # of the labels
  assert metrics['popular/yes_ratio'] == 0
  metrics = scored('pope', tmp_path, files, outputs, 'vlmevalkit').metrics
  assert next(iter(metrics)) == 'accuracy' and metrics['accuracy'] == 0.4
  assert metrics['recall'] == metrics['random/recall'] == 1 / 3
  assert not any('yes_ratio' in name for name in metrics)


@pytest.mark.parametrize(
  'output, answers, official, lavis, lmms_eval, vlmevalkit',
  [
    ('Yes.', ['yes'] * 10, 0, 1, 1, 1),  # nothing normalised, the answer is one
    ('Yes.', ['yes'] * 9 + ['no'], 1, 1, 1, 1),
    ('two', ['two'] * 8 + ['2'] * 2, 1, 0.6, 1, 1),
    ('10', ['10.'] * 9 + ['8'], 1, 1, 1, 0),
    ('red\tbus', ['red bus'] * 2 + ['bus'] * 8, 0.6, 0.6, 0.6, 0.6),
    ('', ['yes'] * 10, 0, 0, 0, 0),
  ],
)
def test_vqa_in_each_mode(
  output, answers, official, lavis, lmms_eval, vlmevalkit, tmp_path
):
  annotation = {'question_id': 7, 'question_type': 'is', 'answer_type': 'other'}
  for mode, value in (
    ('official', official),
    ('lavis', lavis),
    ('lmms-eval', lmms_eval),
    ('vlmevalkit', vlmevalkit),
  ):
    annotation['answers'] = [
      {'answer': answer, 'answer_id': i} for i, answer in enumerate(answers)
    ]
    files = {
      'questions.json': {'questions': [{'question_id': 7}]},
      'annotations.json': {'annotations': [annotation]},
    }
    metrics = scored('vqav2', tmp_path, files, {'7': output}, mode).metrics
    assert metrics['accuracy'] == pytest.approx(100 * value), mode
    assert ('question_type/is' in metrics) == (mode in ('official', 'lavis'))


def test_vqa_leaves_out_equal_records_at_once(tmp_path):
  row = {'question_id': 'a', 'question_type': '', 'answer_type': ''}
  row['answers'] = [{'answer': a} for a in ['yes'] * 4 + ['no'] * 6]
  files = {
    'questions.json': {'questions': [{'question_id': 'a'}]},
    'annotations.json': {'annotations': [row]},
  }
  for mode, value in (('official', 60), ('vlmevalkit', 100)):
    metrics = scored('vqav2', tmp_path, files, {'a': 'yes'}, mode).metrics
    assert metrics['accuracy'] == pytest.approx(value)


def test_vqas_files_are_of_one_split(tmp_path):
  files = {
    'questions.json': {'questions': [{'question_id': 1}]},
    'annotations.json': {'annotations': [{'question_id': 2}]},
  }
  with pytest.raises(UserError, match="question_id '2', which questions.json"):
    scored('vqav2', tmp_path, files, {}, 'official')


@pytest.mark.parametrize(
  'output, answers, official, lmms_eval',
  [
    ('dog', ['dog'] * 10, 1, 1),
    ('The dog.', ['dog'] * 2 + ['cat'] * 8, 0.6, 0.6),
    ('Dog', ['Dog'] * 10, 0, 1),  # the answers are not normalised
    ('10.', ['10.'] * 10, 0, 1),
    ('dont know', ['don’t know'] * 10, 1, 0),
    ('dont know', ["don't know"] * 10, 0, 1),
    ('cant see', ["can't see"] * 10, 1, 1),
  ],
)
def test_vizwiz_normalises_the_prediction(
  output, answers, official, lmms_eval, tmp_path
):
  photo = {'image': 'a.jpg', 'answer_type': 'other'}
  photo['answers'] = [{'answer': answer} for answer in answers]
  for mode, value in (('official', official), ('lmms-eval', lmms_eval)):
    one = scored(
      'vizwiz', tmp_path, {'val.json': [photo]}, {'a.jpg': output}, mode
    )
    assert one.metrics['accuracy'] == pytest.approx(100 * value)


def test_aokvqa_takes_texts_as_they_are(tmp_path):
  rows = [
    {
      'question_id': name,
      'choices': ['cat', 'Dog', 'cat'],
      'correct_choice_idx': right,
      'direct_answers': ['cat', 'cat', ' cat', 'Cat', 'dog'],
      'difficult_direct_answer': name == 'c',
    }
    for name, right in (('a', 0), ('b', 1), ('c', 2))
  ]
  files = {'aokvqa_v1p0_val.json': rows}
  outputs = {'a': 'cat', 'b': 'dog', 'c': 'cat'}
  one = scored('aokvqa_mc', tmp_path, files, outputs, 'official')
  assert one.metrics == {'accuracy': pytest.approx(200 / 3)}
  assert [item['parsed'] for item in one.per_item] == ['cat', None, 'cat']
  scores = {'a': [1.0, 1.0, 0.0], 'b': [0.0, 0.0, 1.0], 'c': [0.0, -1.0, 0.0]}
  one = scored('aokvqa_mc', tmp_path, files, scores, 'official')
  assert one.metrics == {'accuracy': pytest.approx(200 / 3)}
  one = scored('aokvqa_da', tmp_path, files, outputs, 'official')
  assert one.metrics == {'accuracy': pytest.approx(100 * (2 / 3 + 1 / 3) / 2)}
  assert [item['id'] for item in one.per_item] == ['a', 'b'] and one.notes
  one = scored('aokvqa_da', tmp_path, files, outputs, 'lavis')
  assert one.metrics == {'accuracy': pytest.approx(100 * (5 / 3) / 3)}


@pytest.mark.parametrize(
  'output, answers, exact, f1, sets',
  [
    ('The  Red-Bus!', ['red bus', 'redbus'], 1, 1, 0.57),
    ('a red red bus', ['red bus'], 0, 0.8, 0.8),
    ('$4.50', ['450'], 1, 1, 0),
    ('', ['the'], 1, 1, 0),
    ('x', ['the'], 0, 0, 0),
    ('', ['open'], 0, 0, 0),
  ],
)
def test_websrc_normalises_as_squad(output, answers, exact, f1, sets, tmp_path):
  qas = [{'id': 'q', 'answers': [{'text': answer} for answer in answers]}]
  files = {'dev.json': {'data': [{'websites': [{'qas': qas}]}]}}
  one = scored('websrc', tmp_path, files, {'q': output}, 'official')
  assert one.metrics == {
    'exact': 100 * exact,
    'f1': pytest.approx(100 * f1),
  }
  one = scored('websrc', tmp_path, files, {'q': output}, 'lmms-eval')
  assert one.metrics['f1'] == pytest.approx(100 * sets, abs=0.5)


@pytest.mark.parametrize(
  'task, output, answer, right',
  [
    ('clevr', ' 3. There are\n', 3, True),
    ('clevr', '3\n4. x', '3', True),
    ('clevr', '.3', '.3', True),
    ('clevr', '3 spheres', '3', False),
    ('textocr', 'EXIT 4', 'exit 4', True),
    ('textocr', 'A.B', 'A.B', False),  # cut at the period
    ('operator_induction', 'It is 12', 12, True),
    ('operator_induction', 'It is. 12', 12, False),
    ('operator_induction_interleaved', '12 or 13', '12', True),
    ('open_mi', 'Dax', 'dax', True),
    ('matching_mi', 'Oh yes, it is', 'Yes', True),
    ('matching_mi', 'eyes', 'No', False),
    ('matching_mi', '', 'No', True),
  ],
)
def test_vl_icl_cuts_the_answer(task, output, answer, right, tmp_path):
  files = {f'{task}/query.json': [{'id': 0, 'answer': answer}]}
  one = scored('vl_icl', tmp_path, files, {f'{task}/0': output}, 'official')
  assert one.metrics == {f'{task}/accuracy': float(right)}
