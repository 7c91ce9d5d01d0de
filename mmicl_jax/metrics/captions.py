"""COCO captions, NoCaps and Flickr30k: CIDEr-D, BLEU, ROUGE-L and METEOR.

As pycocoevalcap has them, whose tokenizer is in ptb.py. One thing is ours: each
caption is tokenized for itself. The official program gives all captions of a
set to one call, in which a rare final period (of "route B.", "no.") goes by how
the next caption begins.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.bleu import bleu
from mmicl_jax.metrics.cider import cider
from mmicl_jax.metrics.files import json_file, one_file, unique_ids, value_of
from mmicl_jax.metrics.meteor import meteor_scores
from mmicl_jax.metrics.ngrams import count_captions
from mmicl_jax.metrics.ptb import tokenize
from mmicl_jax.metrics.rouge import rouge_l
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean

# What Java takes for the end of a line, while a caption should be one.
_LINE_ENDS = re.compile('[\r\x0b\x0c\u2028\u2029]')


@dataclass(frozen=True)
class _Image:
  references: list[str]
  domain: str = ''


def _read_coco(folder: Path) -> Annotations:
  return _coco_form(one_file(folder, 'captions_*.json'))


def _read_nocaps(folder: Path) -> Annotations:
  return _coco_form(one_file(folder, 'nocaps_*.json'), domains=True)


def _coco_form(path: Path, domains: bool = False) -> Annotations:
  """images: id, domain; annotations: image_id, caption."""
  content = json_file(path)
  images: dict[str, _Image] = {}
  names = []
  for i, row in enumerate(value_of(str(path), content, 'images', list)):
    where = f'{path}, images[{i}]'
    names.append(str(value_of(where, row, 'id', int, str)))
    domain = value_of(where, row, 'domain', str) if domains else ''
    images[names[-1]] = _Image([], domain)
  unique_ids(path, names, 'image')
  for i, row in enumerate(value_of(str(path), content, 'annotations', list)):
    where = f'{path}, annotations[{i}]'
    name = str(value_of(where, row, 'image_id', int, str))
    if name not in images:
      raise UserError(
        f'{where}: "images" lacks the image {name}: give the official file'
      )
    images[name].references.append(value_of(where, row, 'caption', str))
  return _with_references(path, images)


def _read_flickr30k(folder: Path) -> Annotations:
  """images: filename, split, sentences: raw; in Karpathy's form."""
  path = one_file(folder, 'dataset_flickr30k.json')
  images: dict[str, _Image] = {}
  names = []
  content = json_file(path)
  for i, row in enumerate(value_of(str(path), content, 'images', list)):
    where = f'{path}, images[{i}]'
    if value_of(where, row, 'split', str) == 'test':
      name = value_of(where, row, 'filename', str).removesuffix('.jpg')
      names.append(name)
      images[name] = _Image(
        [
          value_of(where, sentence, 'raw', str)
          for sentence in value_of(where, row, 'sentences', list)
        ]
      )
  unique_ids(path, names, 'image')
  return _with_references(path, images)


def _with_references(path: Path, images: dict[str, _Image]) -> Annotations:
  for name, image in images.items():
    if not image.references:
      raise UserError(
        f'{path} has no caption of the image {name}: give the official file'
      )
  return Annotations(list(images), images)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """NoCaps' domains are sets of their own, with their own n-gram weights."""
  broken = 0
  lines: dict[str, tuple[str, list[str]]] = {}
  for name, output in predictions.items():
    texts = [output, *annotations.data[name].references]
    broken += sum(map(bool, map(_LINE_ENDS.search, texts)))
    lines[name] = _line(texts[0]), list(map(_line, texts[1:]))
  groups: dict[str, list[str]] = {'': list(lines)}
  for name in lines:
    if domain := annotations.data[name].domain:
      groups.setdefault(f'domain/{domain}/', []).append(name)
  metrics: dict[str, float] = {}
  per_item: list[dict[str, Any]] = []
  notes = []
  if broken:
    notes.append(
      f'{broken} captions hold a line break of Java (CR, VT, FF, U+2028 '
      'or U+2029); it counts as a blank here, while the official program would '
      'move every later caption to the next image.'
    )
  for prefix, names in sorted(groups.items()):
    found, items = _set_scores([lines[name] for name in names])
    metrics |= {f'{prefix}{key}': value for key, value in found.items()}
    if len(names) == 1:
      notes.append(f'{prefix}cider is of one image, for which it is always 0.')
    if not prefix:
      per_item = [
        {'id': name, **item} for name, item in zip(names, items, strict=True)
      ]
  notes += _add_meteor(
    metrics, {p: [lines[n] for n in names] for p, names in groups.items()}
  )
  return Scored(metrics, per_item, notes)


def _line(caption: str) -> str:
  """The tokens of a caption, joined with blanks."""
  return ' '.join(tokenize(_LINE_ENDS.sub(' ', caption)))


def _set_scores(
  captions: Sequence[tuple[str, Sequence[str]]],
) -> tuple[dict[str, float], list[dict[str, Any]]]:
  """The metrics of a set, and those of its images."""
  counted = count_captions(
    [prediction.split() for prediction, _ in captions],
    [[one.split() for one in references] for _, references in captions],
  )
  ciders = cider(counted).tolist()
  bleus, image_bleus = bleu(counted)
  rouges = [rouge_l(*caption) for caption in captions]
  metrics = {'cider': mean(ciders)}
  metrics |= {f'bleu_{n}': value for n, value in enumerate(bleus, 1)}
  metrics['rouge_l'] = mean(rouges)
  return metrics, [
    {'score': ciders[i], 'parsed': captions[i][0]}
    | {'bleu_4': image_bleus[i][3], 'rouge_l': rouges[i]}
    for i in range(len(captions))
  ]


def _add_meteor(
  metrics: dict[str, float],
  groups: Mapping[str, Sequence[tuple[str, Sequence[str]]]],
) -> Iterable[str]:
  """Adds METEOR to the metrics; the notes say why it is left out."""
  try:
    scores = meteor_scores(list(groups.values()))
  except (OSError, ValueError) as error:
    return [f'METEOR is left out: its Java program failed ({error}).']
  if scores is None:
    return [
      "METEOR is left out: it needs Java and pip install 'mmicl_jax[meteor]', "
      'which brings its Java program.'
    ]
  for prefix, score in zip(groups, scores, strict=True):
    metrics[f'{prefix}meteor'] = score
  return []


SCORERS = tuple(
  Scorer(name, {'official': TEXT}, read, _score)
  for name, read in (
    ('coco_caption', _read_coco),
    ('nocaps', _read_nocaps),
    ('flickr30k', _read_flickr30k),
  )
)
