"""Scorers of ranked candidates: ties, areas under curves, gains, means."""

import math
import random

import pytest
from small import write_json, write_lines
from small_benchmarks import SMALL

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.ranking import best_places, rank_of
from mmicl_jax.metrics.scorer import Annotations
from mmicl_jax.metrics.table import scorer_of


def official(name, annotations, scores):
  """What the official mode finds; the scores may be whole numbers here."""
  given = {one: [float(x) for x in values] for one, values in scores.items()}
  return scorer_of(name).score(annotations, given, 'official')


def test_of_equal_scores_the_earlier_ranks_first():
  scores = [1.0, 3.0, 2.0, 3.0, 0.0]
  assert best_places(scores, 3) == [1, 3, 2]
  assert [rank_of(place, scores) for place in range(5)] == [4, 1, 3, 2, 5]


# Winoground


@pytest.mark.parametrize(
  'scores, text, image',
  [
    ([2, 0, 1, 3], 1, 1),
    ([2, 2, 1, 3], 1, 0),  # caption 0 has no better image
    ([2, 0, 2, 3], 0, 1),  # image 0 has no better caption
    ([2, 0, 1, 1], 1, 0),
    ([3, 1, 0, 1], 0, 1),
    ([0, 0, 0, 0], 0, 0),
  ],
)
def test_winoground_by_hand(scores, text, image):
  annotations = Annotations(['7'], {'7': 'Both'})
  found = official('winoground', annotations, {'7': scores})
  values = {'group': text * image, 'text': text, 'image': image}
  tagged = {f'tag/Both/{name}': value for name, value in values.items()}
  assert found.metrics == values | tagged
  assert next(iter(found.metrics)) == 'group'


# Hateful Memes


def hateful(labels, scores):
  names = [str(i) for i in range(len(labels))]
  annotations = Annotations(names, dict(zip(names, labels, strict=True)))
  given = dict(zip(names, scores, strict=True))
  return official('hateful_memes', annotations, given)


@pytest.mark.parametrize('levels', [2, 5, 1000])
def test_the_area_is_the_share_of_pairs_in_order(levels):
  """And the mean of the items' shares, over each class and over all."""
  draw = random.Random(levels)
  labels = [0, 1, *(draw.randrange(2) for _ in range(48))]
  scores = [draw.randrange(levels) / levels for _ in labels]
  pairs = [
    (a > b) + (a == b) / 2
    for a, y in zip(scores, labels, strict=True)
    for b, z in zip(scores, labels, strict=True)
    if y > z
  ]
  found = hateful(labels, [[score] for score in scores])
  area = sum(pairs) / len(pairs)
  assert found.metrics['roc_auc'] == pytest.approx(area)
  shares = [item['score'] for item in found.per_item]
  assert sum(shares) / len(shares) == pytest.approx(area)


def test_equal_differences_of_two_scores_are_ties():
  """Though 0.3 - 0.2 and 0.2 - 0.1 are different floats."""
  found = hateful([0, 1], [[0.2, 0.3], [0.1, 0.2]])
  assert found.metrics == {'roc_auc': 0.5, 'accuracy': 0.5} and found.notes


def test_half_is_hateful_but_equal_scores_are_not():
  assert hateful([1, 0], [[0.5], [0.49]]).metrics['accuracy'] == 1
  assert hateful([1, 0], [[1, 1], [2, 1]]).metrics['accuracy'] == 0.5


@pytest.mark.parametrize(
  'labels, scores, named',
  [
    ([1, 1], [[0.5], [0.6]], 'is not hateful'),
    ([0, 0], [[0.5], [0.6]], 'is hateful'),
    ([0, 1], [[0.5], [0.6, 0.4]], "'1' has 2 scores"),
  ],
)
def test_no_area_can_be_told(labels, scores, named):
  with pytest.raises(UserError, match=named):
    hateful(labels, scores)


# Visual Dialog


@pytest.fixture
def dialogs(tmp_path):
  SMALL['visdial'](tmp_path, 'official')
  return tmp_path


def test_gains_by_hand(dialogs):
  """Relevance 0, 0.5, 1: two count, and the worst is ranked first."""
  read = scorer_of('visdial').read(dialogs)
  found = official('visdial', read, {'31/3': [3, 2, 1], '30/2': [0, 0, 0]})
  gain = 0.5 / math.log2(3) / (1 + 0.5 / math.log2(3))
  assert found.metrics == {
    'ndcg': pytest.approx(gain),
    'r@1': 0,
    'r@5': 1,
    'r@10': 1,
    'mean': 2.5,
    'mrr': pytest.approx((1 / 3 + 1 / 2) / 2),
  }
  first, second = found.per_item
  assert first == {'id': '31/3', 'score': 1 / 3, 'rank': 3, 'ndcg': gain}
  assert second == {'id': '30/2', 'score': 0.5, 'rank': 2}


def test_rounds_without_a_relevant_option_are_left_out(dialogs):
  dense = [
    {'image_id': 30, 'round_id': 1, 'gt_relevance': [0, 0, 0.0]},
    {'image_id': 31, 'round_id': 2, 'gt_relevance': [0, 0.25, 0]},
  ]
  write_json(dialogs / 'visdial_1.0_val_dense_annotations.json', dense)
  read = scorer_of('visdial').read(dialogs)
  found = official('visdial', read, {'30/1': [1, 2, 3], '31/2': [0, 1, 0]})
  assert found.metrics['ndcg'] == 1 and '30/1' in found.notes[1]
  found = official('visdial', read, {'30/1': [1, 2, 3]})
  assert 'ndcg' not in found.metrics and 'ndcg' not in found.per_item[0]


@pytest.mark.parametrize(
  'row, named',
  [
    ({'image_id': 9, 'round_id': 1}, '9/1 is not in the dialogs'),
    ({'image_id': 30, 'round_id': 0}, '30/0 is not in the dialogs'),
    ({'image_id': 31, 'round_id': 3}, '31/3 stands twice'),
    ({'image_id': 30, 'round_id': 1, 'gt_relevance': [1]}, 'not 3 numbers'),
    ({'image_id': 30, 'round_id': 1, 'gt_relevance': [1, 0, -1]}, 'not 3'),
    ({'round_id': 1}, "no 'image_id'"),
  ],
)
def test_dense_annotations_of_other_dialogs_are_refused(dialogs, row, named):
  relevance = {'gt_relevance': [0, 0, 1]}
  old = {'image_id': 31, 'round_id': 3} | relevance
  path = dialogs / 'visdial_1.0_val_dense_annotations.json'
  write_json(path, [old, relevance | row])
  with pytest.raises(UserError, match=named):
    scorer_of('visdial').read(dialogs)


def test_two_files_of_dialogs_are_one_too_many(dialogs):
  write_json(dialogs / 'visdial_1.0_train.json', {})
  with pytest.raises(UserError, match='has 2 files'):
    scorer_of('visdial').read(dialogs)


# Bongard-HOI, RAVEN, miniImageNet


def test_splits_of_bongard_count_alike(tmp_path):
  rows = [{'split': 'a', 'id': i, 'label': 0} for i in range(3)]
  rows.append({'split': 'b', 'id': 0, 'label': 1})
  write_lines(tmp_path / 'queries.jsonl', rows)
  read = scorer_of('bongard_hoi').read(tmp_path)
  found = official('bongard_hoi', read, dict.fromkeys(read.ids, [1, 1]))
  assert found.metrics == {'accuracy': 0.5, 'a/accuracy': 1, 'b/accuracy': 0}


def test_a_tie_of_candidates_goes_to_the_first(tmp_path):
  """As everywhere; a constant score is right where the label is 0."""
  for name in ('raven', 'miniimagenet'):
    SMALL[name](tmp_path, 'official')
    read = scorer_of(name).read(tmp_path)
    same = {one: [1] * read.candidates[one][0] for one in read.ids}
    found = official(name, read, same)
    assert [item['score'] for item in found.per_item] == [1, 0, 0]


@pytest.mark.parametrize(
  'name, file, row, named',
  [
    ('raven', 'items', {'id': 0, 'label': 6, 'candidates': 6}, '6 instead of'),
    ('raven', 'items', {'id': 0, 'label': 1}, "no 'candidates'"),
    ('raven', 'items', {'id': 0, 'label': True, 'candidates': 6}, 'should be'),
    ('bongard_hoi', 'queries', {'split': 'a', 'id': 0, 'label': 2}, 'instead'),
    ('miniimagenet', 'episodes', {'id': 0, 'names': [1], 'label': 0}, 'text'),
    ('miniimagenet', 'episodes', {'id': 0, 'names': [], 'label': 0}, 'texts'),
    ('winoground', 'examples', {'id': 0}, "no 'collapsed_tag'"),
    ('vsr', 'test', {'label': 2, 'relation': 'on'}, 'instead of 0 to 1'),
    ('hateful_memes', 'dev', {'id': 0, 'label': -1}, 'instead of 0 to 1'),
  ],
)
def test_a_faulty_list_is_refused(tmp_path, name, file, row, named):
  write_lines(tmp_path / f'{file}.jsonl', [row])
  with pytest.raises(UserError, match=named):
    scorer_of(name).read(tmp_path)
