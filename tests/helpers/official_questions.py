"""Official files of question answering in miniature: see benchmark_trees.py."""

import itertools

from official_trees import picture, write_tree

_numbers = itertools.count(1)


def shot(kind='JPEG'):
  return picture(next(_numbers) % 4096, kind)


def vqa(questions, annotations, splits=('train2014', 'val2014')):
  def write(root):
    files = {}
    for split in splits:
      asked, answered = [], []
      for i in range(1, 5):
        files[f'{split}/COCO_{split}_{i:012d}.jpg'] = shot()
        number = 10 * i
        asked.append(
          {'image_id': i, 'question': 'what is it?', 'question_id': number}
        )
        answers = [
          {'answer': 'dog', 'answer_confidence': 'yes', 'answer_id': k + 1}
          for k in range(10)
        ]
        answered.append(
          {
            'question_id': number,
            'image_id': i,
            'answers': answers,
            'answer_type': 'other',
            'question_type': 'what is',
            'multiple_choice_answer': 'dog',
          }
        )
      files[questions.format(split)] = {'questions': asked}
      files[annotations.format(split)] = {'annotations': answered}
    return write_tree(root, files)

  return write


def textvqa(root):
  files = {}
  for split in ('train', 'val'):
    rows = []
    for i in range(4):
      files[f'train_images/{split}{i}.jpg'] = shot()
      rows.append(
        {
          'question_id': i,
          'image_id': f'{split}{i}',
          'question': 'what is it?',
          'answers': ['dog'] * 10,
        }
      )
    files[f'TextVQA_0.5.1_{split}.json'] = {'data': rows}
  return write_tree(root, files)


def stvqa(root):
  rows = []
  files = {}
  for i in range(4):
    files[f'train_images/coco/{i}.jpg'] = shot()
    rows.append(
      {
        'question_id': i,
        'file_path': f'coco/{i}.jpg',
        'question': 'what is it?',
        'answers': ['dog'],
        'dataset': 'coco',
      }
    )
  files['train_task_3.json'] = {'data': rows}
  return write_tree(root, files)


def vizwiz(root):
  files = {}
  for split in ('train', 'val'):
    rows = []
    for i in range(4):
      files[f'{split}/VizWiz_{split}_{i:08d}.jpg'] = shot()
      rows.append(
        {
          'image': f'VizWiz_{split}_{i:08d}.jpg',
          'question': 'what is it?',
          'answers': [
            {'answer': 'dog', 'answer_confidence': 'yes'} for _ in range(10)
          ],
          'answer_type': 'other',
          'answerable': 1,
        }
      )
    files[f'annotations/{split}.json'] = rows
  return write_tree(root, files)


def aokvqa(root):
  files = {}
  for split in ('train', 'val'):
    rows = []
    for i in range(1, 5):
      files[f'{split}2017/{i:012d}.jpg'] = shot()
      rows.append(
        {
          'split': split,
          'image_id': i,
          'question_id': f'{split}{i}',
          'question': 'what is it?',
          'choices': ['dog', 'cat', 'red', 'no'],
          'correct_choice_idx': 1,
          'direct_answers': ['cat'] * 10,
          'difficult_direct_answer': False,
          'rationales': ['It is.'] * 3,
        }
      )
    files[f'aokvqa_v1p0_{split}.json'] = rows
  return write_tree(root, files)
