"""Every benchmark's official files in miniature: clean, with a few items each.

TREES[NAME](root) writes them. Every picture is another one, so that
demonstrations can be drawn.
"""

import base64
import itertools
import json

from official_captions import coco_caption, flickr30k, nocaps
from official_questions import aokvqa, shot, stvqa, textvqa, vizwiz, vqa
from official_trees import write_tree
from official_videos import ivqa, nextqa, video_qa

MME = (
  'existence', 'count', 'position', 'color', 'posters', 'celebrity', 'scene',
  'landmark', 'artwork', 'OCR', 'commonsense_reasoning',
  'numerical_calculation', 'text_translation', 'code_reasoning',
)  # fmt: skip


def mme(root):
  files = {}
  for task in MME:
    for i in range(3):
      files[f'{task}/{i}.jpg'] = shot()
      files[f'{task}/{i}.txt'] = 'Is it red? yes or no.\tYes\nA dog?\tNo\n'
  return write_tree(root, files)


def pope(root):
  files = {}
  for i in range(4):
    files[f'val2014/COCO_val2014_{i:012d}.jpg'] = shot()
  for subset in ('random', 'popular', 'adversarial'):
    rows = [
      {
        'question_id': i + 1,
        'image': f'COCO_val2014_{i:012d}.jpg',
        'text': 'Is there a dog in the image?',
        'label': ('yes', 'no')[i % 2],
      }
      for i in range(4)
    ]
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    files[f'coco_pope_{subset}.json'] = lines
  return write_tree(root, files)


def gqa(root):
  files = {}
  for split in ('train', 'testdev'):
    rows = {}
    for i in range(4):
      files[f'images/{split}{i}.jpg'] = shot()
      rows[f'{split}q{i}'] = {
        'imageId': f'{split}{i}',
        'question': 'what is it?',
        'answer': 'dog',
        'fullAnswer': 'It is a dog.',
        'isBalanced': True,
        'groups': {'global': None, 'local': None},
        'types': {'detailed': 'x', 'structural': 'query', 'semantic': 'obj'},
        'entailed': [],
        'semantic': [{'operation': 'select', 'argument': 'dog'}],
        'semanticStr': 'select: dog',
      }
    files[f'{split}_balanced_questions.json'] = rows
  return write_tree(root, files)


def mmbench(root):
  names = (
    *('index', 'question', 'hint', 'A', 'B', 'C', 'D', 'answer', 'category'),
    *('image', 'l2-category', 'split'),
  )
  rows = ['\t'.join(names)]
  options = ['dog', 'cat', 'red', 'no']
  for i in range(1, 4):
    for turn in range(2):
      number = i + turn * 1_000_000
      turned = options[turn:] + options[:turn]
      image = base64.b64encode(shot()).decode() if not turn else str(i)
      rows.append(
        '\t'.join(
          [
            *(str(number), 'what is it?', 'hint', *turned),
            *('AD'[turn], 'object', image, 'attribute_reasoning', 'dev'),
          ]
        )
      )
  return write_tree(root, {'mmbench_dev_20230712.tsv': '\n'.join(rows) + '\n'})


def winoground(root):
  rows, files = [], {}
  for i in range(4):
    for side in (0, 1):
      files[f'images/ex_{i}_img_{side}.png'] = shot('PNG')
    rows.append(
      {
        'id': i,
        'image_0': f'ex_{i}_img_0',
        'image_1': f'ex_{i}_img_1',
        'caption_0': 'a dog and a cat',
        'caption_1': 'a cat and a dog',
        'tag': 'Noun',
        'secondary_tag': '',
        'num_main_preds': 1,
        'collapsed_tag': ('Object', 'Relation')[i % 2],
      }
    )
  files['data/examples.jsonl'] = rows
  return write_tree(root, files)


def scienceqa(root):
  problems, files, pids = {}, {}, {'train': [], 'test': []}
  for i in range(1, 9):
    split = ('train', 'test')[i % 2]
    pids[split].append(str(i))
    bare = i % 4 == 3
    problems[str(i)] = {
      'question': 'what is it?',
      'choices': ['a dog', 'a cat', 'red'][: 2 + i % 2],
      'answer': 1,
      'hint': '' if bare else 'look.',
      'image': None if bare else 'image.png',
      'task': 'closed choice',
      'grade': 'grade2',
      'subject': 'natural science',
      'topic': 'biology',
      'lecture': '',
      'solution': '',
      'split': split,
    }
    if not bare:
      files[f'images/{split}/{i}/image.png'] = shot('PNG')
  files |= {'problems.json': problems, 'pid_splits.json': pids}
  return write_tree(root, files)


def iconqa(root):
  problems, skills, files, splits = {}, {}, {}, {}
  numbers = itertools.count(1)
  for kind in ('choose_txt', 'choose_img', 'fill_in_blank'):
    for part in ('train', 'test'):
      for _ in range(4):
        pid = str(next(numbers))
        splits.setdefault(f'{kind}_{part}', []).append(pid)
        row = {
          'question': 'what is it?',
          'ques_type': kind,
          'grade': 'grade1',
          'label': 'S2',
          'answer': 1,
        }
        top = f'iconqa/{part}/{kind}/{pid}'
        files[f'{top}/image.png'] = shot('PNG')
        if kind == 'choose_txt':
          row['choices'] = ['dog', 'cat']
        elif kind == 'choose_img':
          row['choices'] = ['choice_0.png', 'choice_1.png']
          for name in row['choices']:
            files[f'{top}/{name}'] = shot('PNG')
        else:
          row['answer'] = 'red'
        problems[pid] = row
        skills[pid] = ['counting']
  files |= {
    'problems.json': problems,
    'pid2skills.json': skills,
    'pid_splits.json': splits,
  }
  return write_tree(root, files)


def nlvr2(root):
  files = {}
  for split in ('train', 'test1'):
    rows = []
    for i in range(4):
      name = f'{split}-{i}-0'
      row = {
        'identifier': f'{name}-0',
        'sentence': 'the dog is red.',
        'label': ('True', 'False')[i % 2],
        'synset': 'dog',
      }
      top = f'images/{split}'
      if split == 'train':
        row['directory'] = 1
        top += '/1'
      for side in (0, 1):
        files[f'{top}/{name}-img{side}.png'] = shot('PNG')
      rows.append(json.dumps(row))
    files[f'data/{split}.json'] = '\n'.join(rows) + '\n'
  return write_tree(root, files)


def vsr(root):
  files = {}
  for split in ('train', 'test'):
    rows = []
    for i in range(4):
      files[f'images/{split}{i}.jpg'] = shot()
      rows.append(
        {
          'image': f'{split}{i}.jpg',
          'image_link': '',
          'caption': 'The dog is on the cat.',
          'label': i % 2,
          'relation': 'on',
        }
      )
    files[f'splits/zeroshot/{split}.jsonl'] = rows
  return write_tree(root, files)


def hateful_memes(root):
  files = {}
  for split in ('train', 'dev_seen'):
    rows = []
    for i in range(4):
      number = f'{len(files):05d}'
      files[f'img/{number}.png'] = shot('PNG')
      rows.append(
        {
          'id': number,
          'img': f'img/{number}.png',
          'label': i % 2,
          'text': 'a red dog',
        }
      )
    files[f'{split}.jsonl'] = rows
  return write_tree(root, files)


def visdial(root):
  answers = ['dog', 'cat', 'red', 'yes', 'no']
  files, dialogs = {}, []
  for image in (1, 2, 3, 4):
    name = 'VisualDialog_val2018'
    files[f'{name}/{name}_{image:012d}.jpg'] = shot()
    rounds = [
      {
        'question': 0,
        'answer': 3,
        'answer_options': [i % 5 for i in range(100)],
        'gt_index': 3,
      }
      for _ in range(2)
    ]
    dialogs.append({'image_id': image, 'caption': 'a dog', 'dialog': rounds})
  data = {'questions': ['is it red'], 'answers': answers, 'dialogs': dialogs}
  files['visdial_1.0_val.json'] = {'split': 'val2018', 'data': data}
  return write_tree(root, files)


def websrc(root):
  files = {'dataset_split_release.json': {'dev': ['au01'], 'train': ['au03']}}
  for site in ('01', '03'):
    rows = ['question,id,element_id,answer_start,answer']
    for page in range(4):
      name = f'{site}{page:05d}'
      files[f'auto/{site}/processed_data/{name}.png'] = shot('PNG')
      rows.append(f'what is it?,au{name}00000,7,0,dog')
    files[f'auto/{site}/dataset.csv'] = '\n'.join(rows) + '\n'
  return write_tree(root, files)


def bongard_hoi(root):
  files = {}
  for first in ('seen', 'unseen'):
    for second in ('seen', 'unseen'):
      split = f'test_{first}_obj_{second}_act'
      sides = []
      for side in 'pn':
        part = []
        for i in range(7):
          name = f'vcoco/{split}{side}{i}.jpg'
          files[f'images/{name}'] = shot()
          part.append({'im_path': name, 'crop_bbox': [0, 0, 40, 20]})
        sides.append(part)
      files[f'bongard_hoi_{split}.json'] = [[*sides, 'ride dog']]
  return write_tree(root, files)


def vl_icl(root):
  files, rows = {}, []
  for i in range(4):
    files[f'open_mi/q{i}.jpg'] = shot()
    support = {}
    for name in ('dax', 'wug'):
      files[f'open_mi/{name}{i}.jpg'] = shot()
      support[name] = {'images': [f'{name}{i}.jpg'], 'caption': name}
    rows.append(
      {
        'id': f'{i}',
        'image': [f'q{i}.jpg'],
        'question': 'This is a',
        'answer': ('dax', 'wug')[i % 2],
        'support': support,
      }
    )
  files['open_mi/query.json'] = rows
  return write_tree(root, files)


def mic(root):
  files, rows = {}, []
  for i in range(4):
    files[f'images/{i}.jpg'] = shot()
    rows.append(
      {
        'id': f'mine/{i}',
        'input_text': 'image 0 is <image0>图. is image 0 a dog?',
        'input_image': [f'images/{i}.jpg'],
        'output_text': 'yes',
      }
    )
  files['test.jsonl'] = rows
  return write_tree(root, files)


TREES = {
  'mme': mme,
  'pope': pope,
  'vqav2': vqa(
    'v2_OpenEnded_mscoco_{}_questions.json', 'v2_mscoco_{}_annotations.json'
  ),
  'okvqa': vqa(
    'OpenEnded_mscoco_{}_questions.json', 'mscoco_{}_annotations.json'
  ),
  'textvqa': textvqa,
  'stvqa': stvqa,
  'vizwiz': vizwiz,
  'aokvqa_mc': aokvqa,
  'aokvqa_da': aokvqa,
  'gqa': gqa,
  'mmbench': mmbench,
  'winoground': winoground,
  'scienceqa': scienceqa,
  'iconqa': iconqa,
  'nlvr2': nlvr2,
  'vsr': vsr,
  'hateful_memes': hateful_memes,
  'msvd_qa': video_qa('YouTubeClips', '.avi', mapping=True),
  'msrvtt_qa': video_qa('TestVideo', '.mp4', mapping=False),
  'ivqa': ivqa,
  'nextqa_mc': nextqa('mc'),
  'nextqa_oe': nextqa('oe'),
  'visdial': visdial,
  'websrc': websrc,
  'bongard_hoi': bongard_hoi,
  'vl_icl': vl_icl,
  'coco_caption': coco_caption,
  'nocaps': nocaps,
  'flickr30k': flickr30k,
  'mic': mic,
}
VIDEOS = ('msvd_qa', 'msrvtt_qa', 'ivqa', 'nextqa_mc', 'nextqa_oe')
