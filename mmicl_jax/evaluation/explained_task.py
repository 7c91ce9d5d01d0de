"""A benchmark's items with demonstrations, to be explained.

They are found, drawn and put into words as `mmicl eval` does it; the answer is
the one that a demonstration would show.
"""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mmicl_jax.context.turns import Example
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.declaration import Benchmark
from mmicl_jax.evaluation.demonstrations import Look, shot_source
from mmicl_jax.evaluation.items import BUILT, IMAGES, sources
from mmicl_jax.evaluation.questions import AskedItem, Variant, asked_items
from mmicl_jax.evaluation.run import forms_of


@dataclasses.dataclass(frozen=True)
class TaskPlan:
  """Which items of a benchmark are explained, and how they are asked."""

  benchmark: Benchmark
  raw: Path
  shots: int
  shot_source: str = 'random'
  seed: int = 0
  prompt: int = 0
  splits: tuple[str, ...] = ()

  def __post_init__(self):
    if not 1 <= self.shots < 20:
      raise UserError(
        f'--shots {self.shots}: give 1 to 19 demonstrations to explain'
      )


def task_prompts(
  plan: TaskPlan, folder: Path, look: Look, limit: int | None = None
) -> tuple[list[tuple[Record, Example]], dict[str, int]]:
  """As explanation.explainable, of the items that can be asked.

  folder: gets the pictures. look: reads the features of pictures, if
  demonstrations are retrieved by them. Raises UserError for files that are
  missing, and if no item can be explained.
  """
  benchmark = plan.benchmark
  form = forms_of(benchmark, str(plan.prompt))[plan.prompt]
  found_in = sources(benchmark, plan.raw, folder, plan.splits)
  images = folder / BUILT / IMAGES
  asked = asked_items(
    benchmark,
    found_in,
    form,
    Variant(plan.shots, plan.prompt, plan.seed),
    shot_source(plan.shot_source, look, images),
    allow_partial=True,
  )
  found: list[tuple[Record, Example]] = []
  left_out: collections.Counter[str] = collections.Counter()
  for one in asked:
    for record, example in _prompts(one, benchmark, images):
      if not example.num_shots:
        left_out['no demonstrations'] += 1
      elif not record.output_text.strip():
        left_out['no answer'] += 1
      elif len(found) != limit:
        found.append((record, example))
    if len(found) == limit:
      break
  if not found:
    reasons = ' and '.join(f'{n} × {reason}' for reason, n in left_out.items())
    raise UserError(
      f'{benchmark.name}: none of its items can be explained ({reasons}): name '
      'splits with public answers, of more than one item'
    )
  return found, dict(left_out)


def _prompts(
  one: AskedItem, benchmark: Benchmark, images: Path
) -> Iterator[tuple[Record, Example]]:
  for i, (item, ask) in enumerate(zip(one.items, one.asks, strict=True)):
    name = str(item.id if item.score_id is None else item.score_id)
    name += f'/{i}' * (len(one.items) > 1)
    where = f'{benchmark.name}: {one.source.split}, item {name}'
    example = ask.example(images, benchmark.style, where)
    yield (
      Record(
        example.inputs,
        list(example.images),
        example.targets,
        id=name,
        dataset=benchmark.name,
        where=where,
      ),
      example,
    )
