"""`mmicl demo`: trains a small MMICL and shows that it learns in context.

It needs no download and no accelerator, and runs the same model, trainer,
checkpoints and generation as a full-size run.
"""

import dataclasses
import functools
import importlib.util
import os
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.context.turns import Turn
from mmicl_jax.convert.disk import to_pytorch
from mmicl_jax.demo import data, page, pictures, results, towers
from mmicl_jax.demo.ablations import Change, ablated_phases, lesson_change
from mmicl_jax.demo.lessons import (
  PHASES,
  QUERIES,
  SIZE,
  HeldOut,
  LessonStream,
  Phase,
)
from mmicl_jax.demo.seen import read_gallery
from mmicl_jax.demo.tasks import ROWS, SEVERAL, Item
from mmicl_jax.inference.load import load
from mmicl_jax.models.configs import (
  Execution,
  MMICLConfig,
  QFormerConfig,
  T5Config,
  ViTConfig,
)
from mmicl_jax.parity.check import check_parity
from mmicl_jax.runtime import files
from mmicl_jax.runtime.versions import version
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import loop, optim
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)
from mmicl_jax.training.stages import Ledger

HELD_OUT_SEED = 1_000_003  # far from the seeds of training
OTHER_TASKS = (*SEVERAL, 'composition')
TOWER_STEPS = 1500
PRESETS = {'default': 1, 'long': 4}  # times the steps of every phase


def config(tokenizer: Tokenizer) -> MMICLConfig:
  """The demo's model: all parts of MMICL in about 400 thousand parameters."""
  return MMICLConfig(
    vit=ViTConfig(96, 2, 4, mlp_dim=192, image_size=SIZE, patch_size=10),
    qformer=QFormerConfig(
      64, 2, 4, mlp_dim=128, num_queries=QUERIES, instruction=False,
      dropout_rate=0.0,
    ),
    t5=T5Config(
      64, 3, 1, num_heads=8, head_dim=8, mlp_dim=128,
      vocab_size=tokenizer.vocab_size, dropout_rate=0.0,
    ),
    image_token=tokenizer.image_id,
    execution=Execution(scan_layers=False),
  )  # fmt: skip


def run_seeds(
  out: Path,
  seed: int,
  seeds: int,
  preset: str,
  ablation: str | None = None,
) -> results.Results:
  """Runs the demo with `seeds` seeds in a row, from `seed` on.

  The first model goes to `out`, the others to seed_<n> in it. Returns the
  first one's results, with the accuracies of the others beside.
  """
  found = run_demo(out, seed, preset=preset, ablation=ablation)
  others: dict[str, tuple[float, ...]] = {}
  for other in range(seed + 1, seed + seeds):
    more = run_demo(
      out / f'seed_{other}', other, preset=preset, ablation=ablation
    )
    for score in (*more.shots, *more.tasks):
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
) -> results.Results:
  """Trains, answers held-out prompts, exports to PyTorch and writes the page.

  items: prompts of each row about unseen classes. preset: a name in PRESETS.
  ablation: of ablations.DEMO_ABLATIONS, what training lacks; held-out prompts
  stay the same. All files go to `out`.
  """
  begin = time.monotonic()
  out.mkdir(parents=True, exist_ok=True)
  vocabulary = out / model_dir.VOCABULARY
  files.write_bytes(vocabulary, data.demo_vocabulary(seed))
  tokenizer = Tokenizer(vocabulary)
  model = config(tokenizer)

  longer = PRESETS[preset]
  tower_steps = TOWER_STEPS * longer
  done, ledger = _train_towers(model, vocabulary, out, tower_steps, seed)
  phases, ledgers = [done], _ledger_rows('towers', ledger)
  before = out / 'towers'
  for i, phase in enumerate(ablated_phases(PHASES, ablation)):
    done, ledger = _train(
      phase.longer(longer),
      model,
      vocabulary,
      out,
      before,
      seed,
      lesson_change(ablation, i),
    )
    phases.append(done)
    ledgers += _ledger_rows(phase.name, ledger)
    before = _folder(out, phase)
  final = before

  _say('answering prompts about classes that were never seen')
  answerer = load(final, batch_size=64)
  held_out = functools.partial(_held_out, seed=seed)
  asked = {task: held_out(task, items) for task in ROWS}
  asked |= {task: held_out(task, 200) for task in OTHER_TASKS}
  digits = {
    task: held_out(task, items, split='digits')
    for task, (_, each) in ROWS.items()
    if each
  }
  answers, read = (
    {
      task: [a.text for a in answerer.generate([x.example for x in chosen])]
      for task, chosen in some.items()
    }
    for some in (asked, digits)
  )
  for task, chosen in asked.items():
    data.write_held_out(chosen, str(out / 'held_out'), task)
  for task, chosen in digits.items():
    data.write_held_out(chosen, str(out / 'digits'), task)
  ask = _ask(answerer, final, out)
  exported = _export(answerer, final, out)
  found = results.Results(
    seed=seed,
    device=f'{os.cpu_count()} CPU cores, {jax.devices()[0].device_kind}',
    seconds=time.monotonic() - begin,
    memory_bytes=_peak_memory(),
    # Each phase's ledger counts the whole model.
    parameters=sum(row.parameters for row in ledgers) // len(phases),
    shots=tuple(_score(x, asked[x], answers[x], ROWS[x][0]) for x in ROWS),
    digits=tuple(_score(x, digits[x], read[x], ROWS[x][0]) for x in digits),
    phases=tuple(phases),
    tasks=tuple(_score(t, asked[t], answers[t]) for t in OTHER_TASKS),
    ledger=tuple(ledgers),
    samples=tuple(_samples(asked, answers, out)),
    ask_command=ask[0],
    ask_answer=ask[1],
    export=exported,
    versions=_versions(),
  )
  found.save(str(out))
  page.write_page(found, str(out))
  return found


def _train_towers(
  model: MMICLConfig, vocabulary: Path, out: Path, steps: int, seed: int
) -> tuple[results.PhaseResult, Ledger]:
  note = (
    'ViT and Q-Former, as a stand-in for pre-trained ones: pictures of one '
    'class come near, those of others go away'
  )
  _say(f'\ntowers: {note}')
  curve: list[results.Point] = []
  folder, begin = out / 'towers', time.monotonic()
  ledger = towers.train_towers(
    model, pictures.load_gallery('train', SIZE), folder, steps, 2e-3,
    seed, lambda step, loss, _: curve.append(results.Point(step, loss)),
  )  # fmt: skip
  model_dir.copy_vocabulary(folder, vocabulary)
  seconds = time.monotonic() - begin
  rate = steps * towers.KINDS * towers.EACH / seconds
  shown = results.PhaseResult(
    'towers', 'ViT, Q-Former', note, steps, seconds, rate, tuple(curve)
  )
  return shown, ledger


def _train(
  phase: Phase,
  model: MMICLConfig,
  vocabulary: Path,
  out: Path,
  before: Path,
  seed: int,
  change: Change | None,
) -> tuple[results.PhaseResult, Ledger]:
  _say(f'\n{phase.name}: {phase.note}')
  curve: dict[int, dict[str, float]] = {}

  def record(step: int, metrics: Mapping[str, float]) -> None:
    curve.setdefault(step, {}).update(metrics)

  begin = time.monotonic()
  seen = None
  if phase.profile == 'tune':  # its towers are frozen
    _say('reading all pictures of training once')
    seen = read_gallery(
      pictures.load_gallery('train', SIZE), model, before, out / 'features'
    )
  done = loop.train(
    ModelSettings(model, phase.profile, init_from=before),
    DataSettings(
      LessonStream(phase, Tokenizer(vocabulary), seed, seen, change),
      HeldOut('icl_words_4', Tokenizer(vocabulary), HELD_OUT_SEED),
      vocabulary,
      feature_cache=None if seen is None else seen.directory,
    ),
    StepSettings(
      phase.steps,
      phase.batch_size,
      optim.warmup_linear(
        phase.learning_rate, phase.steps, warmup=0.05, final=0.05
      ),
      functools.partial(optim.adamw, b2=0.98),
    ),
    RunSettings(
      _folder(out, phase),
      seed=seed,
      save_every=phase.steps,
      eval_every=250,
      log_every=25,
      keep=1,
    ),
    name=phase.name,
    on_metrics=record,
  )
  seconds = time.monotonic() - begin
  points = tuple(
    results.Point(step, m['loss'], m.get('eval/accuracy'))
    for step, m in sorted(curve.items())
    if 'loss' in m
  )
  shown = results.PhaseResult(
    phase.name,
    phase.profile if isinstance(phase.profile, str) else 'T5',
    phase.note,
    phase.steps,
    seconds,
    phase.steps * phase.batch_size / seconds,
    points,
  )
  return shown, done.ledger


def _folder(out: Path, phase: Phase) -> Path:
  return out / phase.name.replace(' ', '_')


def _ledger_rows(name: str, ledger: Ledger) -> list[results.LedgerRow]:
  modules = dict.fromkeys(entry.module for entry in ledger.entries)
  rows = []
  for module in modules:
    parts = [entry for entry in ledger.entries if entry.module == module]
    rows.append(
      results.LedgerRow(
        name,
        module,
        sum(p.parameters for p in parts),
        sum(p.parameters for p in parts if p.trainable),
        sum(p.bytes for p in parts),
        sum(p.optimizer_bytes for p in parts),
      )
    )
  return rows


def _held_out(
  task: str, count: int, seed: int, split: str = 'heldout'
) -> list[Item]:
  return [
    data.make_item(task, HELD_OUT_SEED + seed, i, split, SIZE)
    for i in range(count)
  ]


def _right(item: Item, answer: str) -> bool:
  return answer.strip() == item.example.targets.strip()


def _score(
  name: str,
  items: Sequence[Item],
  answers: Sequence[str],
  ways: int | None = None,
) -> results.Score:
  return results.Score(
    name,
    len(items),
    sum(map(_right, items, answers)),
    chance=sum(item.chance for item in items) / len(items),
    ceiling=sum(item.ceiling for item in items) / len(items),
    shots=items[0].shots if ways else None,
    ways=ways,
  )


def _samples(asked, answers, out: Path):
  """Yields a few prompts of each kind, with failures beside successes."""
  for task in ('icl_words_4', 'icl_5_words_5', 'composition', 'odd_one_out'):
    pairs = list(zip(asked[task], answers[task], strict=True))
    right = [pair for pair in pairs if _right(*pair)]
    wrong = [pair for pair in pairs if not _right(*pair)]
    for item, answer in (*wrong[:1], *right[:1]):
      yield results.Sample.of(item, answer, str(out))


def _ask(answerer, final: Path, out: Path) -> tuple[str, str]:
  """Asks about three images; returns (the command that does so, the answer)."""
  item = next(x for x in _held_out('which', 50, 7) if len(x.pictures) == 3)
  shown = item.pictures
  paths = [os.path.join(out, data.save_picture(p, str(out))) for p in shown]
  text = item.example.turns[-1].text
  answer = answerer.generate([Turn(text, paths)])[0].text
  command = (
    f"mmicl generate --checkpoint {final} --prompt '{text}' "
    f'--image {" ".join(paths)}'
  )
  return command, answer


def _export(answerer, final: Path, out: Path) -> str:
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


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
