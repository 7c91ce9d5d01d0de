"""`mmicl demo`: trains a small MMICL and shows that it learns in context.

It needs no download and no accelerator, and runs the same model, trainer,
checkpoints and generation as a full-size run.
"""

import dataclasses
import importlib.util
import os
import platform
import resource
import sys
import time
from pathlib import Path

import jax

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.convert.disk import to_pytorch
from mmicl_jax.demo import asking, data, page, phases, results
from mmicl_jax.demo.pretrained import Pretrained, read_pretrained
from mmicl_jax.demo.tasks import ROWS
from mmicl_jax.inference.load import load
from mmicl_jax.parity.check import check_parity
from mmicl_jax.runtime import files
from mmicl_jax.runtime.versions import version
from mmicl_jax.tokenizer import Tokenizer

PRESETS = {'default': 1, 'long': 4}  # times the steps of every phase


def run_seeds(
  out: Path,
  seed: int,
  seeds: int,
  preset: str,
  ablation: str | None = None,
  pretrained: Path | None = None,
) -> results.Results:
  """Runs the demo with `seeds` seeds in a row, from `seed` on.

  The first model goes to `out`, the others to seed_<n> in it. pretrained: the
  folder of such a run, whose towers and language models are taken. Returns the
  first one's results, with the accuracies of the others beside.
  """
  places = ('.', *(f'seed_{other}' for other in range(seed + 1, seed + seeds)))
  starts = [
    read_pretrained(pretrained / place, seed + i, preset)
    if pretrained is not None
    else None
    for i, place in enumerate(places)
  ]
  found, *rest = (
    run_demo(
      out / place,
      seed + i,
      preset=preset,
      ablation=ablation,
      pretrained=start,
    )
    for i, (place, start) in enumerate(zip(places, starts, strict=True))
  )
  others: dict[str, tuple[float, ...]] = {}
  for more in rest:
    for score in (*more.shots, *more.digits, *more.tasks):
      others[score.name] = (*others.get(score.name, ()), score.accuracy)
  if others:
    found = dataclasses.replace(found, seeds=others)
    found.save(str(out))
    page.write_page(found, str(out))
  return found


def run_demo(
  out: Path,
  seed: int = 0,
  items: int = 512,
  preset: str = 'default',
  ablation: str | None = None,
  pretrained: Pretrained | None = None,
) -> results.Results:
  """Trains, answers held-out prompts, exports to PyTorch and writes the page.

  items: prompts of each row about unseen classes. preset: a name in PRESETS.
  ablation: of ablations.DEMO_ABLATIONS, what training lacks; held-out prompts
  stay the same. pretrained: the towers and language model to begin with, which
  are trained if there are none. All files go to `out`.
  """
  begin = time.monotonic()
  out.mkdir(parents=True, exist_ok=True)
  vocabulary = out / model_dir.VOCABULARY
  files.write_bytes(vocabulary, data.demo_vocabulary(seed))
  trained = phases.train_phases(
    phases.config(Tokenizer(vocabulary)),
    vocabulary,
    out,
    seed,
    PRESETS[preset],
    ablation,
    pretrained,
  )
  final = trained.final

  phases.say('answering prompts about classes that were never seen')
  model = load(final, batch_size=64)
  letters, digits = asking.ask_held_out(model, out, seed, items)
  command, answer = asking.ask_example(model, final, out)
  found = results.Results(
    seed=seed,
    device=f'{os.cpu_count()} CPU cores, {jax.devices()[0].device_kind}',
    seconds=time.monotonic() - begin,
    memory_bytes=_peak_memory(),
    # Each phase's ledger counts the whole model.
    parameters=sum(r.parameters for r in trained.ledger) // len(trained.phases),
    shots=tuple(asking.score_of(task, letters[task]) for task in ROWS),
    digits=tuple(
      asking.score_of(f'digits_{task}', pairs) for task, pairs in digits.items()
    ),
    phases=trained.phases,
    tasks=tuple(
      asking.score_of(task, letters[task]) for task in asking.OTHER_TASKS
    ),
    ledger=trained.ledger,
    samples=tuple(asking.shown_answers(letters, out)),
    weighed=tuple(asking.weighed(model, letters, out)),
    unseen=tuple(asking.unseen(out)),
    ask_command=command,
    ask_answer=answer,
    export=_export(final, out),
    versions=_versions(),
    preset=preset,
    ablation=ablation,
  )
  found.save(str(out))
  page.write_page(found, str(out))
  return found


def _export(final: Path, out: Path) -> str:
  """Writes a PyTorch directory and, if PyTorch is installed, compares it."""
  directory = out / 'pytorch'
  to_pytorch(final, directory)
  if not all(map(importlib.util.find_spec, ('torch', 'transformers'))):
    return (
      f'{directory} loads in transformers; to see that its logits agree: '
      "pip install -e '.[torch]', then mmicl convert check "
      f'--source {directory} --checkpoint {final}'
    )
  checked = check_parity(directory, final)
  logits = next(row for row in checked.rows if row.place == 'logits')
  return (
    f'{directory}: {checked.verdict}, from the patches to the answers; the '
    f'largest difference of a logit is {logits.absolute:.1e}'
  )


def _peak_memory() -> int:
  """Peak memory of this process in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024  # Linux: KiB


def _versions() -> dict[str, str]:
  names = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'grain')
  found = {name: version(name) or '' for name in names}
  return {'Python': platform.python_version(), **found}
