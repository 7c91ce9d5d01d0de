"""Small official folders of captions, and of other free text."""

import pytest
from small import Small, write_json, write_lines

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.lemmas import Lemmatizer
from mmicl_jax.metrics.wordnet import word_net

CAPTIONS = {
  '7': ('A man rides a wave.', 'domain 1'),
  '11': ("The dog's ball isn't here, but there are two others", 'domain 1'),
  '12': ('3 girls play tennis at 10 a.m. today', 'domain 2'),
  '30': ('Nobody is sitting on the red bench.', 'domain 2'),
}


def _coco_form(name):
  def write(folder, mode):
    images = [{'id': int(i), 'domain': d} for i, (_, d) in CAPTIONS.items()]
    annotations = [
      {'image_id': int(i), 'caption': text}
      for i, (caption, _) in CAPTIONS.items()
      for text in (caption, caption)
    ]
    write_json(folder / name, {'images': images, 'annotations': annotations})
    return _perfect_captions(CAPTIONS)

  return write


def _flickr30k(folder, mode):
  images = [
    {'filename': f'{i}.jpg', 'split': split, 'sentences': [{'raw': caption}]}
    for split in ('train', 'test')
    for i, (caption, _) in CAPTIONS.items()
  ]
  write_json(folder / 'dataset_flickr30k.json', {'images': images})
  return _perfect_captions(CAPTIONS)


def _perfect_captions(captions):
  answers = {name: caption for name, (caption, _) in captions.items()}
  best = {'cider': 10, 'rouge_l': 1, 'domain/domain 1/cider': 10}
  return Small(best | {f'bleu_{n}': 1 for n in range(1, 5)}, answers)


def _mic(folder, mode):
  answers = dict(enumerate(('a red bus', 'yes', 'two or three', '图')))
  rows = [{'input_text': 'q', 'output_text': a} for a in answers.values()]
  write_lines(folder / 'test.jsonl', rows)
  return Small({'accuracy': 1}, {str(i): a for i, a in answers.items()})


def _nextqa_oe(folder, mode):
  try:
    word_net(), Lemmatizer(word_net(), {})
  except UserError as error:
    pytest.skip(str(error))
  answers = {
    '1_0': ('CW', 'the dogs were playing'),
    '1_1': ('TP', 'a lady in red'),
    '2_0': ('DC', 'two'),
    '2_1': ('DO', 'cats'),
  }
  rows = ['video,question,answer,qid,type']
  for name, (kind, answer) in answers.items():
    video, qid = name.split('_')
    rows.append(f'{video},why,{answer},{qid},{kind}')
  (folder / 'test.csv').write_text('\n'.join(rows), encoding='utf-8')
  (folder / 'stopwords.txt').write_text('the\na\nin\n', encoding='utf-8')
  second = {'2': {'0': 'three', '1': 'kittens'}}
  write_json(folder / 'add_reference_answer_test.json', second)
  write_json(folder / 'pos_tags.json', {'playing': 'VBG', 'red': 'JJ'})
  best = {'wups': 100, 'type/TN': 100, 'type/DC': 100, 'group/C': 100}
  return Small(best, {name: answer for name, (_, answer) in answers.items()})


SMALL_CAPTIONS = {
  'coco_caption': _coco_form('captions_val2014.json'),
  'flickr30k': _flickr30k,
  'mic': _mic,
  'nextqa_oe': _nextqa_oe,
  'nocaps': _coco_form('nocaps_val_4500_captions.json'),
}
