"""Training data that lacks a part of the context scheme."""

import pytest

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.ablations import ablated
from mmicl_jax.data.records import Record, write_records
from mmicl_jax.data.sources import open_sources
from mmicl_jax.errors import UserError

PLAIN = assemble(
  Turn('images {0} and {1}: which is red?', ['c', 'd'], 'image {1}'),
  [
    Turn('what is image {0}?', ['a'], 'a dog'),
    Turn('and image {0}?', ['b'], 'image {0} is a cat'),
  ],
)


def record(example, **rest):
  images = list(example.images)
  return Record(example.inputs, images, example.targets, **rest)


def test_declarations_go_and_images_stay():
  found = ablated(record(PLAIN), ['declarations'])
  assert found.inputs == (
    '<image0>图\nwhat is image 0? a dog\n\n'
    '<image1>图\nand image 1? image 1 is a cat\n\n'
    '<image2>图\n<image3>图\nimages 2 and 3: which is red?'
  )
  assert found.images == ('a', 'b', 'c', 'd') and found.targets == 'image 3'
  assert found.example.copies == (1, 1, 1, 1)


@pytest.mark.parametrize('style', ['plain', 'chat'])
def test_the_query_alone_has_numbers_of_its_own(style):
  *shots, query = PLAIN.turns
  example = assemble(query, shots, style=style)
  alone = assemble(query, style=style)
  for item in (record(example), record(example, meta={'shots': 2}), example):
    found = ablated(item, ['few_shot'])
    assert (found.inputs, found.targets) == (alone.inputs, alone.targets)
    assert tuple(found.images) == ('c', 'd')
  both = ablated(example, ['few_shot', 'declarations'])
  assert both.inputs.endswith(
    '<image0>图\n<image1>图\nimages 0 and 1: which is red?'
  )
  # What says that it shows none is all query, whatever its form.
  kept = record(example, meta={'shots': []})
  assert ablated(kept, ['few_shot']) is kept


def test_one_image_in_each_turn_is_not_interconnected():
  *shots, query = PLAIN.turns
  assert ablated(record(PLAIN), ['interconnected']) is None
  single = record(assemble(shots[1], shots[:1]))
  assert ablated(single, ['interconnected']) is single
  # Two images in two paragraphs of one question are.
  single = record(assemble(shots[1], shots[:1]), meta={'shots': 0})
  assert ablated(single, ['interconnected']) is None


def test_sources_read_what_is_left(tmp_path):
  *shots, query = PLAIN.turns
  path = str(tmp_path / 'some.jsonl')
  records = [record(PLAIN), record(assemble(shots[1], shots[:1]))]
  write_records(path, [*records, records[0], records[1]])
  [plain] = open_sources(path)
  assert len(plain.data) == 4
  [found] = open_sources(path, ablate=('interconnected', 'few_shot'))
  assert [len(x.images) for x in found.data] == [1, 1]
  assert found.rate == 2 and found.data[1].where.endswith('some.jsonl:4')
  with pytest.raises(UserError, match="ABLATE names 'shots': choose of decl"):
    open_sources(path, ablate='shots')
  write_records(path, records[:1])
  with pytest.raises(UserError, match='no record is left'):
    open_sources(path, ablate=('interconnected',))
