"""A few items of each benchmark in its official files, and perfect answers.

To add one: a function that writes the files into an empty folder and gives a
Small, and its name in SMALL. tests/metrics/every_scorer_test.py does the rest.
"""

from small import Small, write_json, write_lines
from small_captions import SMALL_CAPTIONS
from small_choices import SMALL_CHOICES

from mmicl_jax.metrics import mme


def _mme(folder, mode):
  answers = {}
  for task in (*mme.PERCEPTION, *mme.COGNITION):
    lines = []
    for image in ('1.jpg', '图 2.png'):
      for which, label in enumerate(('Yes', 'No')):
        lines.append(f'{image}\tIs it {which}?\t{label}')
        answers[f'{task}/{image}/{which}'] = label
    (folder / f'{task}.txt').write_text('\n'.join(lines), encoding='utf-8')
  return Small({'perception': 2000, 'cognition': 800}, answers)


def _pope(folder, mode):
  answers, best = {}, {}
  for subset in ('random', 'popular'):
    rows = [
      {'question_id': i, 'image': 'a.jpg', 'text': 'Is it?', 'label': label}
      for i, label in enumerate(('yes', 'no', 'yes'), 1)
    ]
    write_lines(folder / f'coco_pope_{subset}.json', rows)
    for row in rows:
      answers[f'{subset}/{row["question_id"]}'] = row['label']
    best |= {f'{subset}/{m}': 1 for m in ('accuracy', 'precision', 'f1')}
  return Small({'accuracy': 1, **best}, answers)


def _vqa(folder, mode):
  """Answers that all modes leave as they are."""
  questions, annotations, answers = [], [], {}
  for i, answer in enumerate(('yes', '2', 'red bus')):
    questions.append({'question_id': i, 'image_id': i, 'question': 'What?'})
    others = ['no', 'a cat'] if i else [answer] * 2
    annotations.append(
      {
        'question_id': i,
        'question_type': 'what',
        'answer_type': ('yes/no', 'number', 'other')[i],
        'answers': [
          {'answer': text, 'answer_confidence': 'yes', 'answer_id': k}
          for k, text in enumerate([answer] * 8 + others, 1)
        ],
      }
    )
    answers[str(i)] = answer
  write_json(folder / 'val_questions.json', {'questions': questions})
  write_json(folder / 'val_annotations.json', {'annotations': annotations})
  return Small({'accuracy': 100, 'answer_type/yes/no': 100}, answers)


def _text_vqa(name):
  def write(folder, mode):
    texts = ('stop', '图 books', 'exit 4')
    rows = [
      {'question_id': i, 'question': 'What?', 'answers': [text] * 10}
      for i, text in enumerate(texts)
    ]
    write_json(folder / name, {'data': rows})
    best = {'accuracy': 100 if 'Text' in name else 1, 'anls': 1}
    return Small(best, {str(i): text for i, text in enumerate(texts)})

  return write


def _vizwiz(folder, mode):
  rows = [
    {
      'image': f'VizWiz_val_{i}.jpg',
      'question': 'What?',
      'answers': [{'answer': text, 'answer_confidence': 'yes'}] * 10,
      'answer_type': 'other',
      'answerable': int(i < 2),
    }
    for i, text in enumerate(('dog', 'blue can', 'unanswerable'))
  ]
  write_json(folder / 'val.json', rows)
  best = dict.fromkeys(('accuracy', 'average_precision', 'f1'), 100)
  return Small(
    best,
    {row['image']: row['answers'][0]['answer'] for row in rows},
    {row['image']: [0.25 + 0.5 * row['answerable']] for row in rows},
  )


def _aokvqa(folder, mode):
  rows = [
    {
      'question_id': f'q{i}',
      'question': 'What?',
      'choices': ['cat', 'dog', 'a cow', 'Hen'],
      'correct_choice_idx': 2 + i,
      'direct_answers': ['a cow', 'Hen'] * 5,
      'difficult_direct_answer': False,
    }
    for i in range(2)
  ]
  write_json(folder / 'aokvqa_v1p0_val.json', rows)
  return Small(
    {'accuracy': 100},
    {'q0': 'a cow', 'q1': 'Hen'},
    {'q0': [-1, -2, 0.5, 0.5], 'q1': [0, 1, 2, 3]},
  )


def _websrc(folder, mode):
  texts = {'au01': 'open', 'au02': '4.5 stars', 'bo01': 'yes'}
  websites = [
    {'page_id': name, 'qas': [{'id': name, 'answers': [{'text': text}]}]}
    for name, text in texts.items()
  ]
  domains = [{'domain': 'auto', 'websites': websites}]
  write_json(folder / 'websrc1.0_dev_.json', {'data': domains})
  return Small({'exact': 100, 'f1': 100}, texts)


def _vl_icl(folder, mode):
  answers, best = {}, {}
  for task, values in {
    'open_mi': ('dax', 'blicket'),
    'matching_mi': ('Yes', 'No'),
    'clevr': (2, '3'),
    'operator_induction': (12, '0'),
  }.items():
    rows = [{'id': f'{task}_{i}', 'answer': v} for i, v in enumerate(values)]
    write_json(folder / task / 'query.json', rows)
    answers |= {f'{task}/{row["id"]}': str(row['answer']) for row in rows}
    best[f'{task}/accuracy'] = 1
  return Small(best, answers)


# Each gets an empty folder and the mode, on which answers may depend.
SMALL = (
  SMALL_CAPTIONS
  | SMALL_CHOICES
  | {
    'mme': _mme,
    'pope': _pope,
    'vqav2': _vqa,
    'okvqa': _vqa,
    'textvqa': _text_vqa('TextVQA_0.5.1_val.json'),
    'stvqa': _text_vqa('train_task_3.json'),
    'vizwiz': _vizwiz,
    'vizwiz_answerability': _vizwiz,
    'aokvqa_mc': _aokvqa,
    'aokvqa_da': _aokvqa,
    'websrc': _websrc,
    'vl_icl': _vl_icl,
  }
)
