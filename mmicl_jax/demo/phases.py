"""Trains the demo's phases in turn, with the trainer of a full-size run."""

import functools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.demo import pictures, results, towers
from mmicl_jax.demo.ablations import Change, ablated_phases, lesson_change
from mmicl_jax.demo.data import HELD_OUT_SEED
from mmicl_jax.demo.lessons import (
  PHASES,
  QUERIES,
  SIZE,
  HeldOut,
  LessonStream,
  Phase,
)
from mmicl_jax.demo.pretrained import Pretrained
from mmicl_jax.demo.seen import read_gallery
from mmicl_jax.models.configs import (
  Execution,
  MMICLConfig,
  QFormerConfig,
  T5Config,
  ViTConfig,
)
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import loop, optim
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)
from mmicl_jax.training.stages import Ledger

TOWER_STEPS = 1200


@dataclass(frozen=True)
class Trained:
  """The last checkpoint, and what came of each phase."""

  final: Path
  phases: tuple[results.PhaseResult, ...]
  ledger: tuple[results.LedgerRow, ...]


def config(tokenizer: Tokenizer) -> MMICLConfig:
  """The demo's model: all parts of MMICL in about 600 thousand parameters."""
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


def train_phases(
  model: MMICLConfig,
  vocabulary: Path,
  out: Path,
  seed: int,
  longer: int = 1,
  ablation: str | None = None,
  pretrained: Pretrained | None = None,
) -> Trained:
  """Trains the towers, then each phase from the one before, in folders of out.

  longer: how many times the steps of each phase. ablation: what is missing, of
  ablations.DEMO_ABLATIONS. pretrained: towers and language model that are
  taken in place of training them.
  """
  if pretrained is None:
    done, rows = _train_towers(
      model, vocabulary, out, TOWER_STEPS * longer, seed
    )
    phases, ledger = [done], _ledger_rows('towers', rows)
    before = out / 'towers'
  else:
    phases, ledger = list(pretrained.phases), list(pretrained.ledger)
    before = pretrained.checkpoint
  known = {phase.name for phase in phases}
  for i, phase in enumerate(ablated_phases(PHASES, ablation)):
    if phase.name in known:
      continue
    done, rows = _train(
      phase.longer(longer),
      model,
      vocabulary,
      out,
      before,
      seed,
      lesson_change(ablation, i),
    )
    phases.append(done)
    ledger += _ledger_rows(phase.name, rows)
    before = _folder(out, phase)
  return Trained(before, tuple(phases), tuple(ledger))


def _train_towers(
  model: MMICLConfig, vocabulary: Path, out: Path, steps: int, seed: int
) -> tuple[results.PhaseResult, Ledger]:
  note = (
    'ViT and Q-Former, as a stand-in for pre-trained ones: pictures of one '
    'class come near, those of others go away'
  )
  say(f'\ntowers: {note}')
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
  say(f'\n{phase.name}: {phase.note}')
  curve: dict[int, dict[str, float]] = {}

  def record(step: int, metrics: Mapping[str, float]) -> None:
    curve.setdefault(step, {}).update(metrics)

  begin = time.monotonic()
  seen = None
  if phase.profile == 'tune':  # its towers are frozen
    say('reading all pictures of training once')
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
      eval_every=500,
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


def say(text: str) -> None:
  """Tells the person who waits what happens now, on stderr."""
  print(text, file=sys.stderr, flush=True)
