"""Builds official trees in miniature, and reads what came of them."""

import dataclasses
import json
from pathlib import Path

from mmicl_jax.data.build import run, table
from mmicl_jax.data.build.items import REASONS
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.tree import Tree


@dataclasses.dataclass(frozen=True)
class Build:
  """A folder that was built, and its manifest."""

  out: Path
  manifest: dict

  def records(self, split: str) -> list[dict]:
    path = self.out / f'{split.replace("/", ".")}.jsonl'
    return [json.loads(x) for x in path.read_text('utf-8').splitlines()]

  def record(self, name: str) -> dict:
    """The record of an id, without the dataset's name."""
    split = name.split('/')[0]
    whole = f'{self.manifest["dataset"]}/{name}'
    [found] = [x for x in self.records(split) if x['id'] == whole]
    return found

  def ids(self, split: str) -> list[str]:
    """What follows the split in the ids, in order."""
    front = f'{self.manifest["dataset"]}/{split}/'
    ids = [record['id'] for record in self.records(split)]
    assert all(name.startswith(front) for name in ids)
    return [name.removeprefix(front) for name in ids]

  def skipped(self, split: str) -> dict[str, list[str]]:
    return self.manifest['splits'][split]['skipped']

  def pictures(self, record: dict) -> list[bytes]:
    return [(self.out / path).read_bytes() for path in record['input_image']]


def built(name: str, raw: Path, out: Path, **plan) -> Build:
  """Builds a dataset of the table; plan: more of Plan, such as shots=0."""
  dataset = table.dataset_of(name)
  return built_plan(Plan(dataset, Tree(raw, dataset.shape), out, **plan))


def built_plan(plan: Plan) -> Build:
  made = Build(plan.out, run.build(plan))
  for split in made.manifest['splits']:
    check_split(made, split)
  return made


def check_split(made: Build, split: str) -> None:
  """What must hold for every split of every dataset."""
  entry, records = made.manifest['splits'][split], made.records(split)
  assert entry['written'] == len(records)
  sources = {tuple(record['meta']['source_ids']) for record in records}
  skipped = sum(map(len, entry['skipped'].values()))
  assert entry['found'] == len(sources) + skipped
  assert set(entry['skipped']) <= set(REASONS)
  ids = [record['id'] for record in records]
  assert len(ids) == len(set(ids))
  for record in records:
    text = record['input_text']
    names = [f'<image{k}>图' for k in range(len(record['input_image']))]
    assert [text.count(name) for name in names] == [1] * len(names)
    assert text.count('图') == text.count('<image') == len(names)
    places = [text.index(name) for name in names]
    assert places == sorted(places)
    answers = record['meta']['answers']
    assert record['output_text'] or not answers
    assert len(record['meta']['shots']) <= made.manifest['shots']
