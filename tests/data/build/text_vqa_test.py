"""ST-VQA and TextVQA from official trees in miniature."""

import pytest
from official_trees import build_tree, picture, write_tree


def stvqa_row(number, path, answers=('Nova', 'nova'), name='train'):
  row = {
    'question': f'What is written on {number}?',
    'image_classification': 'sign',
    'file_path': path,
    'dataset': path.split('/')[0],
    'question_id': number,
    'file_name': path.split('/')[-1],
    'set_name': name,
  }
  return row if name == 'test' else {**row, 'answers': list(answers)}


@pytest.mark.parametrize('folder', ['train_images', 'train_imgs', 'train', '.'])
def test_stvqa_asks_once_what_its_three_tasks_hold(tmp_path, folder):
  first = 'coco-text/COCO_train2014_000000000077.jpg'
  rows = [
    stvqa_row(11, first),
    stvqa_row(7, 'icdar/a.png'),
    stvqa_row(3, 'imageNet/n1.jpg'),
    stvqa_row(4, 'VizWiz/gone.jpg'),
    stvqa_row(5, 'svt/../../../etc/passwd'),
    stvqa_row([6], 'icdar/a.png'),
  ]
  data = {
    f'train_task_{task}.json': {
      'data': [row | ({'dictionary': []} if task == 1 else {}) for row in part]
    }
    for task, part in ((1, rows[:2]), (2, rows[:3]), (3, rows))
  }
  data['test_task_3.json'] = {'data': [stvqa_row(1, 'svt/t.jpg', name='test')]}
  pictures = {
    f'{folder}/{first}': picture(1, mode='L'),
    f'{folder}/icdar/a.png': picture(2, 'GIF', 'P'),
    f'{folder}/imageNet/n1.jpg': picture(3, mode='CMYK'),
    'test_images/svt/t.jpg': picture(4),
  }
  raw = write_tree(tmp_path / 'raw', data | pictures)
  built = build_tree('stvqa', raw, '--shots', '0')
  assert built.ids('train') == ['11', '7', '3']
  assert [built.shown(r) for r in built.records('train')][:2] == [[1], [2]]
  # What a picture is called says its content, not its official name.
  names = [r['input_image'][0] for r in built.records('train')]
  assert [name.rpartition('.')[2] for name in names] == ['jpg', 'gif', 'jpg']
  for name, official in zip(names, list(pictures)[:3], strict=True):
    assert (built.out / name).read_bytes() == pictures[official]
  assert built.skipped('train') == {
    'missing_field': ['train_task_3.json[5]'],
    'missing_file': ['4'],
    'outside_raw': ['5'],
  }
  assert built.one('train', '11')['meta']['answers'] == ['Nova', 'nova']
  assert built.manifest['unlabelled'] == ['test']
  assert len(built.manifest['raw']) == 3
  named = build_tree('stvqa', raw, '--splits', 'test')
  assert [r['output_text'] for r in named.records('test')] == ['']
  assert named.shown(named.one('test', '1')) == [4]


def textvqa_row(number, image, answers, name):
  row = {
    'question': 'What brand?',
    'image_id': image,
    'image_classes': ['Tin can'],
    'flickr_original_url': '',
    'image_width': 48,
    'image_height': 24,
    'question_tokens': ['what', 'brand'],
    'question_id': number,
    'set_name': name,
  }
  return row if answers is None else {**row, 'answers': answers}


def test_textvqa_finds_val_among_train_s_pictures(tmp_path):
  answers = ['nova'] * 8 + ['', 'answering does not require reading text']
  raw = write_tree(
    tmp_path / 'raw',
    {
      f'TextVQA_0.5.1_{name}.json': {
        'dataset_type': name,
        'data': [textvqa_row(number, image, own, name)],
      }
      for name, number, image, own in (
        ('train', 0, '0054c91397f2fe05', answers),
        ('val', 34602, '003a8ae2ef43b901', answers),
        ('test', 39602, '00aa', None),
      )
    }
    | {
      'train_images/0054c91397f2fe05.jpg': picture(1),
      'train_images/003a8ae2ef43b901.jpg': picture(2),
      'test_images/00aa.jpg': picture(3),
    },
  )
  built = build_tree('textvqa', raw)
  assert list(built.manifest['splits']) == ['train', 'val']
  assert built.ids('train') == ['0'] and built.ids('val') == ['34602']
  assert built.shown(built.one('val', '34602')) == [2]
  assert built.one('val', '34602')['meta']['answers'] == answers
  assert built.manifest['unlabelled'] == ['test']
  named = build_tree('textvqa', raw, '--splits', 'test')
  assert named.shown(named.one('test', '39602')) == [3]
