"""Official files of caption sets in miniature: see benchmark_trees.py."""

from official_questions import shot
from official_trees import write_tree


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
