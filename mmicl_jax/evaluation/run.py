"""`mmicl eval`: benchmarks are asked, answered and scored, into one folder.

    OUT/.built/images/              pictures, by their contents
    OUT/TASK/task.json              the declaration, and how it was asked
    OUT/TASK/annotations/           what the scorer reads
    OUT/TASK/[VARIANT/]asked.jsonl, predictions.jsonl
    OUT/report.{md,json,html}

The first variant lies in the task's folder, each other one in a folder of its
own. Whatever is there already and fits is kept.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmicl_jax.context.templates import load_templates
from mmicl_jax.context.turns import Turn
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.annotations import write_annotations
from mmicl_jax.evaluation.declaration import Benchmark
from mmicl_jax.evaluation.demonstrations import ShotSource, shot_source
from mmicl_jax.evaluation.items import BUILT, IMAGES, ItemSource, sources
from mmicl_jax.evaluation.out_folder import (
  accept_annotations,
  check_folder,
  new_annotations,
  remove_unfinished,
)
from mmicl_jax.evaluation.predictions import (
  PREDICTIONS,
  PredictionFile,
  versions,
)
from mmicl_jax.evaluation.questions import ASKED, Variant, questions_of
from mmicl_jax.evaluation.task_folder import TaskFolder, folder_of
from mmicl_jax.metrics.table import scorer_of
from mmicl_jax.runtime import files
from mmicl_jax.runtime.progress import counted

if TYPE_CHECKING:
  from mmicl_jax.inference.predictor import Predictor

SHARDS = 16  # so many have work, of however few questions


@dataclasses.dataclass(frozen=True)
class EvalPlan:
  """What is asked of a model.

  prompts: 'all', numbers of forms, or a file of forms. shard: (i, n), of n from
  i = 0 on. workers: processes that look at pictures.
  """

  raw: Path
  out: Path
  benchmarks: tuple[Benchmark, ...]
  shots: tuple[int, ...] | None = None
  seeds: tuple[int, ...] = (0,)
  prompts: str = '0'
  shot_source: str = 'random'
  splits: tuple[str, ...] = ()
  limit: int | None = None
  shard: tuple[int, int] = (0, 1)
  allow_partial: bool = False
  batch_size: int = 8
  max_input_length: int = 1024
  workers: int = 1

  def __post_init__(self):
    if self.limit is not None and self.limit < 1:
      raise UserError(f'--limit {self.limit}: ask at least 1 item of a split')
    for count in self.shots or ():
      if not 0 <= count < 20:
        raise UserError(f'--shots {count}: give 0 to 19')
    i, count = self.shard
    if not 0 <= i < count:
      raise UserError(
        f'--shard {i}/{count}: give 0/{count} to {count - 1}/{count}'
      )
    names = [benchmark.name for benchmark in self.benchmarks]
    if twice := [name for name in names if names.count(name) > 1]:
      raise UserError(f'--task names {twice[0]} twice: name it once')
    if not names:
      raise UserError('--task names no benchmark')


def evaluate(
  plan: EvalPlan, load: Callable[[], 'Predictor']
) -> list[TaskFolder]:
  """Asks and answers all that is planned; returns the folders of the tasks.

  load: gives the model; it is called once, after all files were found, and
  before pictures are looked at. Raises UserError for whatever is missing.
  """
  found = [
    (benchmark, sources(benchmark, plan.raw, plan.out, plan.splits))
    for benchmark in plan.benchmarks
  ]
  forms = {b.name: forms_of(b, plan.prompts) for b, _ in found}
  names = [benchmark.name for benchmark in plan.benchmarks]
  roots = [split.plan.tree.root for _, splits in found for split in splits]
  check_folder(plan.out, names, roots)
  remove_unfinished(plan.out, names)
  predictor = Loaded(load)
  shots_from = shot_source(
    plan.shot_source, predictor.look, plan.out / BUILT / IMAGES
  )
  known = [_annotations(plan, *one) for one in found]
  done = []
  for (benchmark, split_sources), ids in zip(found, known, strict=True):
    done.append(
      _task(
        plan,
        benchmark,
        split_sources,
        forms[benchmark.name],
        shots_from,
        predictor,
        ids,
      )
    )
  return done


def _annotations(
  plan: EvalPlan, benchmark: Benchmark, split_sources: Sequence[ItemSource]
) -> Sequence[str]:
  """Writes what the scorer reads; returns the ids that it knows."""
  folder = new_annotations(plan.out / benchmark.name)
  write_annotations(benchmark, split_sources, folder)
  return scorer_of(benchmark.scorer).read(folder).ids


def _check_ids(
  benchmark: Benchmark, ids: Sequence[str], asked: set[str], partial: bool
) -> None:
  """Raises UserError if what is asked is not what is scored."""
  known = set(ids)
  if other := sorted(asked - known):
    raise UserError(
      f'{benchmark.name}: {other[0]} is asked, but the scorer knows it not: '
      'look whether the files in --raw are of one release'
    )
  missing = [one for one in ids if one not in asked]
  if missing and not partial:
    raise UserError(
      f'{benchmark.name}: the scorer wants {missing[0]}'
      + f' and {len(missing) - 1} more' * (len(missing) > 1)
      + ', which the files in --raw do not ask: mend them, or score the others '
      'with --allow_partial'
    )


class Loaded:
  """A model, loaded when it is first needed."""

  def __init__(self, load: Callable[[], 'Predictor']):
    self._load = load
    self._predictor: Predictor | None = None

  def get(self) -> 'Predictor':
    if self._predictor is None:
      self._predictor = self._load()
    return self._predictor

  def look(self, paths: Sequence[str]) -> np.ndarray:
    """The mean of the visual tokens of pictures: f32[N, E]."""
    predictor = self.get()
    prompts = [predictor.prompt(Turn('', [path])) for path in paths]
    found = predictor.engine.reader.features(prompts)
    return np.stack(
      [np.asarray(found[p.image_keys[0]], np.float32).mean(0) for p in prompts]
    )


def forms_of(benchmark: Benchmark, prompts: str) -> dict[int, str]:
  """The forms that --prompts names, by their numbers."""
  forms = benchmark.forms
  if prompts.endswith('.json'):
    forms = load_templates(prompts).forms
  elif prompts != 'all':
    try:
      return {
        i: dict(enumerate(forms))[i] for i in map(int, prompts.split(','))
      }
    except (ValueError, KeyError) as error:
      raise UserError(
        f'--prompts {prompts}: give all, a file of forms (.json), or numbers '
        f'from 0 to {len(forms) - 1}, which {benchmark.name} has'
      ) from error
  return dict(enumerate(forms))


def _task(
  plan: EvalPlan,
  benchmark: Benchmark,
  split_sources: Sequence[ItemSource],
  forms: dict[int, str],
  shots_from: ShotSource | list[Turn],
  predictor: Loaded,
  ids: Sequence[str],
) -> TaskFolder:
  """One benchmark, asked in all ways."""
  variants = [
    Variant(count, prompt, seed)
    for count in plan.shots or (benchmark.shots,)
    for prompt in forms
    for seed in plan.seeds
  ]
  folder = plan.out / benchmark.name
  if plan.limit is None:
    for source in split_sources:
      source.look_at_all(plan.workers)
  arguments: dict[str, Any] = {
    'shot_source': plan.shot_source,
    'limit': plan.limit,
    'splits': [source.split for source in split_sources],
    'partial': plan.allow_partial or plan.limit is not None,
    'shard': None if plan.shard[1] == 1 else list(plan.shard),
  }
  task = TaskFolder(
    folder,
    benchmark,
    tuple(variants),
    {str(i): form for i, form in forms.items()},
    arguments,
  )
  for variant in variants:
    place = folder_of(folder, variants, variant)
    asked = questions_of(
      benchmark,
      split_sources,
      forms[variant.prompt],
      variant,
      shots_from,
      plan.limit,
      plan.allow_partial,
    )
    names = set()
    new = place / f'{ASKED}.new'
    with files.writing(new) as file:
      for question in counted(f'{benchmark.name}: questions', asked):
        file.write(f'{question.to_json()}\n')
        names.add(question.id)
    block = max(1, min(plan.batch_size, len(names) // SHARDS))
    arguments['block'] = block
    try:
      _check_ids(benchmark, ids, names, arguments['partial'])
      # What was predicted stays beside the questions that it answers.
      kept = _job(plan, benchmark, new, place, block).check()
    except UserError:
      new.unlink()
      remove_unfinished(plan.out, [benchmark.name])
      raise
    os.replace(new, place / ASKED)
    # Only now: a run that is refused leaves what its report was made of.
    accept_annotations(folder)
    with warnings.catch_warnings():
      # What a prompt lost is in its line.
      warnings.filterwarnings('ignore', message='.*left out')
      job = _job(plan, benchmark, place / ASKED, place, block)
      job.run(predictor.get(), kept)
  task.save()
  return task


def _job(
  plan: EvalPlan, benchmark: Benchmark, asked: Path, place: Path, block: int
) -> PredictionFile:
  """The predictions of a file of questions."""
  settings: dict[str, Any] = {
    'decoding': _decoding(benchmark),
    'style': benchmark.style,
    'answering': repr((benchmark.answering, benchmark.split_answering)),
    'max_input_length': plan.max_input_length,
    'versions': versions(),
  }
  return PredictionFile(
    source=asked,
    target=place / PREDICTIONS,
    options=benchmark.options,
    settings=settings,
    block=block,
    shard=plan.shard,
    benchmark=benchmark,
    images=plan.out / BUILT / IMAGES,
    remedy='choose another --out.',
  )


def _decoding(benchmark: Benchmark) -> dict[str, Any]:
  """The settings of decoding that are not as always."""
  options = benchmark.options
  shown = {'num_beams', 'max_new_tokens'} | {
    field.name
    for field in dataclasses.fields(options)
    if getattr(options, field.name) != field.default
  }
  return {
    field.name: getattr(options, field.name)
    for field in dataclasses.fields(options)
    if field.name in shown
  }
