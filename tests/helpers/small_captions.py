"""Small official folders of the benchmarks whose answers are captions."""

from small import Small, write_json, write_lines

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


SMALL_CAPTIONS = {
  'coco_caption': _coco_form('captions_val2014.json'),
  'flickr30k': _flickr30k,
  'mic': _mic,
  'nocaps': _coco_form('nocaps_val_4500_captions.json'),
}
