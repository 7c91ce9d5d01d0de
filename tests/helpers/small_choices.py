"""Small benchmarks of choices, ranked candidates and answers of a word."""

import csv

from small import Small, write_json, write_lines


def _table(path, rows, delimiter=','):
  with path.open('w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)


def _gqa(folder, mode):
  questions, answers = {}, {}
  for i, answer in enumerate(('yes', 'red', 'left', 'no')):
    answers[str(i)] = answer
    questions[str(i)] = {
      'question': 'What is 图?',
      'answer': answer,
      'isBalanced': i != 2,
      'semantic': [{'operation': 'select', 'argument': 'bus (1)'}],
      'entailed': [str((i + 1) % 4), str(i)],
      'groups': {'global': ('color', None)[i == 3], 'local': 'x'},
      'types': {
        'structural': ('verify', 'query')[i == 1],
        'semantic': 'attr',
        'detailed': ('color', 'twoCommon')[i == 3],
      },
    }
  write_json(folder / 'val_all_questions.json', questions)
  choices = {k: {'valid': [v], 'plausible': [v]} for k, v in answers.items()}
  write_json(folder / 'val_choices.json', choices)
  best = dict.fromkeys(('accuracy', 'binary', 'open', 'consistency'), 100)
  return Small(best | {'distribution': 0}, answers)


def _mmbench(folder, mode):
  rows, answers = [], {}
  for group in (1, 2):
    for turn in range(2):
      index = turn * 10**6 + group
      letter = 'AB'[(group + turn) % 2]
      options = ('a cat', 'a dog')[:: 1 - 2 * turn]
      rows.append(
        {'index': index, 'question': 'What?', 'hint': '', 'C': 'None', 'D': ''}
        | dict(zip('AB', options, strict=True))
        | {'answer': letter, 'category': 'ocr', 'split': 'dev'}
        | {'l2-category': 'coarse_perception'}
      )
      answers[str(index)] = f'({letter})'
  _table(folder / 'MMBench_DEV_EN.tsv', rows[::-1], '\t')
  best = {'dev/overall': 1, 'dev/l2/CP': 1, 'overall': 1, 'category/ocr': 1}
  return Small(best, answers)


def _winoground(folder, mode):
  tags = ('Object', 'Both', 'Object')
  rows = [{'id': i, 'collapsed_tag': tag} for i, tag in enumerate(tags)]
  write_lines(folder / 'examples.jsonl', rows)
  best = {'group': 1, 'tag/Object/text': 1, 'tag/Both/image': 1}
  return Small(best, scores={str(i): [2, -1, -2.5, 1] for i in range(3)})


def _scienceqa(folder, mode):
  problems = {
    str(i): {
      'choices': ['a', 'b', 'c'],
      'answer': i,
      'hint': ('', 'Look.')[i % 2],
      'image': (None, 'image.png')[i == 2],
      'grade': f'grade{i + 5}',
      'subject': 'natural science',
      'topic': 'physics',
    }
    for i in range(3)
  }
  write_json(folder / 'problems.json', problems | {'9': {}})
  write_json(
    folder / 'pid_splits.json', {'train': ['9'], 'test': list(problems)}
  )
  best = dict.fromkeys(('accuracy', 'has_image', 'topic/physics'), 100)
  letters = 'ABC' if mode == 'lmms-eval' else '012'
  return Small(
    best,
    {str(i): letters[i] for i in range(3)},
    {str(i): [int(n == i) for n in range(3)] for i in range(3)},
  )


def _iconqa(folder, mode):
  problems = {
    '1': {'ques_type': 'choose_img', 'answer': 0},
    '2': {'ques_type': 'choose_txt', 'answer': 2},
    '3': {'ques_type': 'fill_in_blank', 'answer': '12'},
    '4': {'ques_type': 'fill_in_blank', 'answer': '3:00'},
  }
  write_json(folder / 'problems.json', problems)
  write_json(
    folder / 'pid2skills.json', {k: ['time', 'scene'] for k in problems}
  )
  write_json(folder / 'pid_splits.json', {'train': [], 'test': list(problems)})
  best = dict.fromkeys(('accuracy', 'task/fill_in_blank', 'skill/time'), 100)
  return Small(best, {k: str(row['answer']) for k, row in problems.items()})


def _nlvr2(folder, mode):
  names = ('test1-0-0-0', 'test1-0-1-0', 'test1-1-0-0')
  rows = [
    {'identifier': name, 'sentence': 'Two.', 'label': ('True', 'False')[i % 2]}
    for i, name in enumerate(names)
  ]
  write_lines(folder / 'test1.json', rows)
  best = {'accuracy': 1, 'consistency': 1}
  return Small(best, {row['identifier']: row['label'] for row in rows})


def _vsr(folder, mode):
  rows = [{'label': i % 2, 'relation': ('on', 'near')[i % 2]} for i in range(4)]
  write_lines(folder / 'test.jsonl', rows)
  (folder / 'rel_meta_category_dict.txt').write_text(
    'Topological: on, in\nProximity: near \n', encoding='utf-8'
  )
  words = ('No', 'Yes') if mode == 'vlmevalkit' else ('False.', '1')
  return Small(
    {'accuracy': 1, 'f1': 1, 'relation/on': 1, 'category/Proximity': 1},
    {str(i): words[row['label']] for i, row in enumerate(rows)},
    {str(i): [0, -1 + 2 * row['label']] for i, row in enumerate(rows)},
  )


def _hateful_memes(folder, mode):
  rows = [{'id': f'0{i}', 'label': i % 2} for i in range(4)]
  write_lines(folder / 'dev_seen.jsonl', rows)
  scores = {row['id']: [0.25 + row['label'] / 2] for row in rows}
  return Small({'roc_auc': 1, 'accuracy': 1}, scores=scores)


def _video_qa(folder, mode):
  words = ('two', 'dog', '图')
  rows = [
    {'question': 'what, "is" it', 'answer': word, 'id': 7 + i, 'type': i}
    for i, word in enumerate(words)
  ]
  _table(folder / 'test.csv', rows)
  return _of_vocabulary(folder, {str(7 + i): i for i in range(3)}, words)


def _ivqa(folder, mode):
  words = ('two', 'dog', '图')
  rows = [
    {'video_id': 'v'} | {f'answer{n}': word for n in range(1, 6)}
    for word in words
  ]
  _table(folder / 'test.csv', rows)
  return _of_vocabulary(folder, {str(i): i for i in range(3)}, words)


def _of_vocabulary(folder, places, words):
  write_json(folder / 'vocab.json', {word: i for i, word in enumerate(words)})
  best = {'accuracy': 1, 'accuracy_at_10': 1, 'type/what': 1, 'type/color': 1}
  return Small(
    best,
    {name: words[place] for name, place in places.items()},
    {
      name: [int(i == place) for i in range(3)]
      for name, place in places.items()
    },
  )


def _nextqa_mc(folder, mode):
  rows = [
    {'video': 24, 'qid': i, 'question': 'why, then', 'type': kind, 'answer': i}
    | {f'a{n}': f'choice {n}' for n in range(5)}
    for i, kind in enumerate(('CW', 'TP', 'TN', 'DL'))
  ]
  _table(folder / 'val.csv', rows)
  best = dict.fromkeys(('accuracy', 'type/TN', 'group/D'), 100)
  return Small(
    best,
    {f'24_{i}': str(i) for i in range(4)},
    {f'24_{i}': [int(n == i) for n in range(5)] for i in range(4)},
  )


def _visdial(folder, mode):
  dialogs = [
    {
      'image_id': image,
      'dialog': [
        {'answer_options': [5, 6, 7], 'gt_index': i} for i in range(3)
      ],
    }
    for image in (30, 31)
  ]
  write_json(folder / 'visdial_1.0_val.json', {'data': {'dialogs': dialogs}})
  dense = [{'image_id': 31, 'round_id': 3, 'gt_relevance': [0, 0.5, 1.0]}]
  write_json(folder / 'visdial_1.0_val_dense_annotations.json', dense)
  places = {f'{m}/{i + 1}': i for m in (30, 31) for i in range(3)}
  scores = {k: [-abs(n - i) for n in range(3)] for k, i in places.items()}
  best = dict.fromkeys(('ndcg', 'r@1', 'r@5', 'mean', 'mrr'), 1)
  return Small(best, scores=scores)


def _bongard_hoi(folder, mode):
  rows = [
    {'split': split, 'id': i, 'label': i}
    for split in ('seen', 'unseen')
    for i in (0, 1)
  ]
  write_lines(folder / 'queries.jsonl', rows)
  scores = {f'{r["split"]}/{r["id"]}': [0, r['label']] for r in rows}
  return Small({'accuracy': 1, 'unseen/accuracy': 1}, scores=scores)


def _raven(folder, mode):
  rows = [{'id': i, 'label': i, 'candidates': 6 + i} for i in range(3)]
  write_lines(folder / 'items.jsonl', rows)
  scores = {
    str(r['id']): [int(n == r['label']) for n in range(r['candidates'])]
    for r in rows
  }
  return Small({'accuracy': 1}, scores=scores)


def _miniimagenet(folder, mode):
  names = ['lion', 'malamute', '图']
  rows = [{'id': i, 'names': names, 'label': i} for i in range(3)]
  write_lines(folder / 'episodes.jsonl', rows)
  return Small(
    {'accuracy': 1},
    {str(i): f' {name.title()}' for i, name in enumerate(names)},
    {str(i): [int(n == i) for n in range(3)] for i in range(3)},
  )


SMALL_CHOICES = {
  'gqa': _gqa,
  'mmbench': _mmbench,
  'winoground': _winoground,
  'scienceqa': _scienceqa,
  'iconqa': _iconqa,
  'nlvr2': _nlvr2,
  'vsr': _vsr,
  'hateful_memes': _hateful_memes,
  'msvd_qa': _video_qa,
  'msrvtt_qa': _video_qa,
  'ivqa': _ivqa,
  'nextqa_mc': _nextqa_mc,
  'visdial': _visdial,
  'bongard_hoi': _bongard_hoi,
  'raven': _raven,
  'miniimagenet': _miniimagenet,
}
