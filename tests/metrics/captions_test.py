"""Captions: what the recorded cases leave open, and a random comparison."""

import contextlib
import io
import json
import random

import numpy as np
import pytest
from score_cases import items_of, run, score
from small_captions import SMALL_CAPTIONS, write_lines

from mmicl_jax.metrics.bleu import bleu
from mmicl_jax.metrics.cider import cider
from mmicl_jax.metrics.ngrams import count_captions
from mmicl_jax.metrics.rouge import rouge_l


@pytest.fixture
def small(tmp_path):
  """Writes a small benchmark, and `changed` answers first; arguments."""

  def make(name, *changed):
    (tmp_path / 'data').mkdir()
    answers = dict(SMALL_CAPTIONS[name](tmp_path / 'data', '').answers)
    for key, output in zip(answers, changed, strict=False):
      answers[key] = output
    rows = [{'id': key, 'output': text} for key, text in answers.items()]
    write_lines(tmp_path / 'answers.jsonl', rows)
    return name, tmp_path / 'data', tmp_path / 'answers.jsonl'

  return make


# Predictions, references, and what pycocoevalcap 1.2 gives: a word too often,
# references of other lengths (two as close), short and empty predictions, words
# that are another image's.
KNOWN = (
  (
    'a dog runs on the the grass',
    'a dog runs on the grass',
    'the dog is running',
    'a big dog on the green grass today',
  ),
  (
    'two people sit',
    'two people are sitting on a bench in the park',
    'people sit',
  ),
  ('a red bus on the street', 'a red bus on the street', 'the bus is red', 'a'),
  ('', 'a cat on a mat'),
  ('the red dog is on a mat', 'a cat', 'the cat is on a mat'),
)

CIDER = [
  3.3422101548421157,
  2.311328770032079,
  3.962497455711778,
  0.0,
  1.637154791265612,
]
BLEU = [
  0.7971451756050191,
  0.7595479068943204,
  0.6820752409579457,
  0.6311355897434874,
]
BLEU_4 = [
  0.6803749331879301,
  5.623413249326094e-06,
  0.9999999995958335,
  0.0,
  0.4347208718624464,
]
ROUGE_L = [0.9360613810741688, 0.8299319727891156, 1.0, 0.0, 0.7800511508951408]


def test_a_set_as_pycocoevalcap_scores_it():
  counted = count_captions(
    [prediction.split() for prediction, *_ in KNOWN],
    [[one.split() for one in references] for _, *references in KNOWN],
  )
  assert cider(counted) == pytest.approx(CIDER)
  whole, each = bleu(counted)
  assert whole == pytest.approx(BLEU)
  assert [scores[3] for scores in each] == pytest.approx(BLEU_4)
  found = [rouge_l(prediction, references) for prediction, *references in KNOWN]
  assert found == pytest.approx(ROUGE_L)


def random_sets(num_sets):
  """(prediction, references) of each image, in one set after the other."""
  drawn = random.Random(0)
  for _ in range(num_sets):
    words = [f'w{i}' for i in range(drawn.choice([2, 5, 30]))] + [
      "dog's",
      '1/2',
    ]

    def caption(words=words):
      length = drawn.choice([0, 1, 2, 3, 5, 8, 12])
      return ' '.join(drawn.choice(words) for _ in range(length))

    images = []
    for _ in range(drawn.choice([1, 2, 3, 8])):
      references = [caption() for _ in range(drawn.randint(1, 5))]
      same = drawn.random() < 0.3
      images.append((references[-1] if same else caption(), references))
    yield images


@pytest.mark.slow
def test_random_sets_score_as_with_pycocoevalcap():
  """A thousand sets of token strings; its tokenizer needs Java."""
  reason = 'pycocoevalcap is not installed: the extra meteor'
  official = pytest.importorskip('pycocoevalcap', reason=reason)
  del official
  from pycocoevalcap.bleu.bleu import Bleu
  from pycocoevalcap.cider.cider import Cider
  from pycocoevalcap.rouge.rouge import Rouge

  for images in random_sets(1000):
    if not any(text for _, references in images for text in references):
      continue  # the official CIDEr raises ValueError
    theirs = {i: references for i, (_, references) in enumerate(images)}
    ours = {i: [prediction] for i, (prediction, _) in enumerate(images)}
    counted = count_captions(
      [prediction.split() for prediction, _ in images],
      [[one.split() for one in references] for _, references in images],
    )
    whole, each = Cider().compute_score(theirs, ours)
    assert cider(counted) == pytest.approx(each, abs=1e-9)
    assert cider(counted).mean() == pytest.approx(whole, abs=1e-9)
    with contextlib.redirect_stdout(io.StringIO()):
      whole, each = Bleu(4).compute_score(theirs, ours)
    assert bleu(counted)[0] == pytest.approx(whole, abs=1e-12)
    assert np.array(bleu(counted)[1]).T == pytest.approx(np.array(each))
    _, each = Rouge().compute_score(theirs, ours)
    assert [rouge_l(*image) for image in images] == pytest.approx(list(each))


def test_an_n_gram_of_all_images_weighs_nothing():
  references = [[['the', 'dog']], [['the', 'cat']]]
  same, other = cider(count_captions([['the'], ['cat']], references))
  assert same == 0 and other > 0


def test_rouge_splits_at_blanks_only():
  assert rouge_l('call 555\xa0123', ['call 555 123']) < 0.5
  assert rouge_l('', ['']) == 1 and rouge_l('', ['a']) == 0


def test_a_domain_is_a_set_of_its_own(small):
  """Its n-grams weigh by its own images, and its metrics have its name."""
  name, data, answers = small('nocaps', 'a wave', 'a ball')
  metrics = score(name, data, answers)['metrics']
  path = data / 'nocaps_val_4500_captions.json'
  content = json.loads(path.read_text('utf-8'))
  content['images'] = content['images'][:2]
  kept = {image['id'] for image in content['images']}
  content['annotations'] = [
    row for row in content['annotations'] if row['image_id'] in kept
  ]
  path.write_text(json.dumps(content), 'utf-8')
  lines = answers.read_text('utf-8').splitlines(keepends=True)
  answers.write_text(''.join(lines[:2]), 'utf-8')
  alone = score(name, data, answers)['metrics']
  for key in ('cider', 'bleu_1', 'bleu_4', 'rouge_l'):
    assert metrics[f'domain/domain 1/{key}'] == alone[key]
  assert metrics['cider'] != alone['cider']


@pytest.mark.parametrize('char', ['\r', '\v', '\f', '\u2028', '\u2029'])
def test_a_line_break_is_a_blank_and_noted(small, char, tmp_path):
  name, data, answers = small('coco_caption', f'Call 555{char}123-4567.')
  got = score(name, data, answers, '--per_item', tmp_path / 'items.jsonl')
  assert any('line break' in note for note in got['notes'])
  item = items_of(tmp_path / 'items.jsonl')['7']
  # As one number: it may have a blank inside, but no line break.
  assert item['parsed'] == 'call 555\xa0123-4567'


def test_a_line_feed_is_not_noted(small):
  name, data, answers = small('flickr30k', 'A man rides\na wave.')
  notes = score(name, data, answers)['notes']
  assert not any('line break' in note for note in notes)


def test_one_image_scores_nothing_and_is_noted(small):
  name, data, answers = small('coco_caption')
  lines = answers.read_text('utf-8').splitlines(keepends=True)
  answers.write_text(lines[0], 'utf-8')
  got = score(name, data, answers, '--allow_partial')
  assert got['metrics']['cider'] == 0 and got['metrics']['rouge_l'] == 1
  assert any('of one image' in note for note in got['notes'])


def test_annotations_without_a_caption_or_an_image(small):
  name, data, answers = small('coco_caption')
  path = data / 'captions_val2014.json'
  content = json.loads(path.read_text('utf-8'))
  argv = ('--benchmark', name, '--data', data, '--predictions', answers)
  for key, found in (('annotations', 'no caption of'), ('images', 'lacks')):
    path.write_text(json.dumps(content | {key: content[key][2:]}), 'utf-8')
    status, out, err = run(*argv, '--json')
    assert (status, out, err.count('\n')) == (2, '', 1)
    assert path.name in err and found in err


def test_mic_takes_part_of_a_label_for_it(small):
  """In either direction, and nothing at all for everything."""
  name, data, answers = small('mic', 'bus', 'yes, it is', '', 'picture')
  assert (
    score(name, data, answers, '--mode', 'mic')['metrics']['accuracy'] == 0.75
  )
