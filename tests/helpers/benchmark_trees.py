"""Every benchmark's official files in miniature: clean, with a few items each.

TREES[NAME](root) writes them. Every picture is another one, so that
demonstrations can be drawn.
"""

import base64
import itertools
import json

from official_trees import picture, video_file, write_tree

_numbers = itertools.count(1)
MME = (
  'existence', 'count', 'position', 'color', 'posters', 'celebrity', 'scene',
  'landmark', 'artwork', 'OCR', 'commonsense_reasoning',
  'numerical_calculation', 'text_translation', 'code_reasoning',
)  # fmt: skip


def shot(kind='JPEG'):
  return picture(next(_numbers) % 4096, kind)


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


def _vqa(questions, annotations, splits=('train2014', 'val2014')):
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


def _video_qa(top, suffix, mapping):
  def write(root):
    files = {}
    videos = []
    for start, split in ((0, 'train'), (2, 'test')):
      rows = []
      for i in range(2):
        number = start + i + 1
        videos.append(number)
        rows.append(
          {
            'category_id': 1,
            'video_id': number,
            'question': 'what is it?',
            'answer': 'dog',
            'id': 10 * number,
          }
        )
      files[f'{split}_qa.json'] = rows
    if mapping:
      files['youtube_mapping.txt'] = ''.join(
        f'clip{n} vid{n}\n' for n in videos
      )
    write_tree(root, files)
    for n in videos:
      name = f'clip{n}' if mapping else f'video{n}'
      video_file(root / top / f'{name}{suffix}', frames=12, first=20 * n)
    return root

  return write


def ivqa(root):
  files = {}
  for start, split in ((0, 'train'), (2, 'test')):
    rows = ['video_id,start,end,question,' + ','.join(
      f'answer{k}' for k in range(1, 6)
    )]  # fmt: skip
    for i in range(2):
      name = f'v{start + i}'
      rows.append(f'{name},0,3,what is it?,dog,dog,cat,red,no')
      video_file(
        root / f'videos/{name}_0_3.webm', 'libvpx', 12, 20 * (start + i)
      )
    files[f'{split}.csv'] = '\n'.join(rows) + '\n'
  return write_tree(root, files)


def _nextqa(form):
  def write(root):
    files = {'map_vid_vidorID.json': {}, 'stopwords.txt': 'a\nthe\nis\n'}
    for start, split in ((0, 'train'), (2, 'test')):
      names = ['video', 'frame_count', 'width', 'height', 'question', 'answer']
      names += ['qid', 'type']
      names += [f'a{k}' for k in range(5)] if form == 'mc' else []
      rows = [','.join(names)]
      for i in range(2):
        video = f'{start + i + 1}'
        files['map_vid_vidorID.json'][video] = f'0/{video}'
        answer = '1' if form == 'mc' else 'dog'
        cells = [video, '12', '64', '48', 'what is it', answer, '0', 'CW']
        cells += ['dog', 'cat', 'red', 'no', 'yes'] if form == 'mc' else []
        rows.append(','.join(cells))
        video_file(
          root / f'NExTVideo/0/{video}.mp4', frames=12, first=20 * (start + i)
        )
      files[f'{form}/{split}.csv'] = '\n'.join(rows) + '\n'
    return write_tree(root, files)

  return write


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


def coco_caption(root):
  files, images = {}, []
  for i in range(1, 7):
    split = ('train', 'test')[i % 2]
    files[f'val2014/COCO_val2014_{i:012d}.jpg'] = shot()
    images.append(
      {
        'filepath': 'val2014',
        'filename': f'COCO_val2014_{i:012d}.jpg',
        'cocoid': i,
        'split': split,
        'sentences': [
          {'raw': f'A dog and {i} cats.', 'sentid': 10 * i + k, 'imgid': i}
          for k in range(2)
        ],
      }
    )
  files['dataset_coco.json'] = {'dataset': 'coco', 'images': images}
  return write_tree(root, files)


def nocaps(root):
  files, images, rows = {}, [], []
  for i in range(3):
    files[f'validation/{i}.jpg'] = shot()
    images.append(
      {
        'id': i,
        'file_name': f'{i}.jpg',
        'domain': 'in-domain',
        'open_images_id': str(i),
      }
    )
    rows += [
      {'image_id': i, 'id': 10 * i + k, 'caption': f'{i} dogs and a cat'}
      for k in range(2)
    ]
  files['nocaps_val_4500_captions.json'] = {
    'images': images,
    'annotations': rows,
  }
  return write_tree(root, files)


def flickr30k(root):
  files, images = {}, []
  for i in range(1, 7):
    split = ('train', 'test')[i % 2]
    files[f'flickr30k-images/{i}.jpg'] = shot()
    images.append(
      {
        'filename': f'{i}.jpg',
        'imgid': i,
        'split': split,
        'sentids': [10 * i, 10 * i + 1],
        'sentences': [
          {
            'raw': f'A dog and {i} cats.',
            'sentid': 10 * i + k,
            'imgid': i,
            'tokens': [],
          }
          for k in range(2)
        ],
      }
    )
  files['dataset_flickr30k.json'] = {'dataset': 'flickr30k', 'images': images}
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
  'vqav2': _vqa(
    'v2_OpenEnded_mscoco_{}_questions.json', 'v2_mscoco_{}_annotations.json'
  ),
  'okvqa': _vqa(
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
  'msvd_qa': _video_qa('YouTubeClips', '.avi', mapping=True),
  'msrvtt_qa': _video_qa('TestVideo', '.mp4', mapping=False),
  'ivqa': ivqa,
  'nextqa_mc': _nextqa('mc'),
  'nextqa_oe': _nextqa('oe'),
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
