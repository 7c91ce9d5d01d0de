"""Towers and language models that ablations take from another run."""

import pytest

from mmicl_jax import presets
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.demo import phases, run
from mmicl_jax.demo.pretrained import read_pretrained
from mmicl_jax.demo.results import LedgerRow, PhaseResult, Results, Score
from mmicl_jax.errors import UserError


def finished(folder, seed=0, preset='default'):
  """A run's results, and the folder of its language model."""
  folder.mkdir(parents=True)
  names = ('towers', 'language', 'stage 1', 'stage 2')
  Results(
    seed, 'cpu', 1.0, 1, 1, (Score('icl_words_2', 2, 1, 0.5),),
    tuple(PhaseResult(x, 'T5', '', 1, 1.0, 1.0, ()) for x in names),
    ledger=tuple(LedgerRow(x, 'vit', 1, 1, 4, 8) for x in names),
    preset=preset,
  ).save(str(folder))  # fmt: skip
  (folder / 'language').mkdir()
  (folder / 'language' / model_dir.MODEL).write_text('{}')
  return folder


def test_stages_begin_with_the_other_runs_models(tmp_path, monkeypatch):
  begun = []

  def train(phase, model, vocabulary, out, before, seed, change):
    begun.append((phase.name, before))
    return PhaseResult(phase.name, '', '', 1, 1.0, 1.0, ()), phases.Ledger(
      '', ()
    )

  monkeypatch.setattr(phases, '_train', train)
  monkeypatch.setattr(phases, '_train_towers', None)
  base, out = finished(tmp_path / 'base'), tmp_path / 'out'
  start = read_pretrained(base, 0, 'default')
  found = phases.train_phases(
    presets.model('tiny'), base, out, 0, 1, 'no_few_shot', start
  )
  assert begun == [
    ('stage 1', base / 'language'),
    ('stage 2', out / 'stage_1'),
  ]
  assert found.final == out / 'stage_2'
  assert [x.name for x in found.phases] == [
    'towers', 'language', 'stage 1', 'stage 2'
  ]  # fmt: skip
  assert [row.phase for row in found.ledger] == ['towers', 'language']


def test_each_seed_begins_with_its_own(tmp_path, monkeypatch):
  base = finished(tmp_path / 'base', seed=4)
  finished(base / 'seed_5', seed=5)
  begun = []

  def run_demo(out, seed, pretrained, **others):
    begun.append((out, seed, pretrained.checkpoint))
    return Results.load(str(base / 'results.json'))

  monkeypatch.setattr(run, 'run_demo', run_demo)
  monkeypatch.setattr(run.page, 'write_page', lambda *_: None)
  out = tmp_path / 'out'
  out.mkdir()
  run.run_seeds(out, 4, 2, 'default', 'stage_1_only', base)
  assert begun == [
    (out, 4, base / 'language'),
    (out / 'seed_5', 5, base / 'seed_5' / 'language'),
  ]
  with pytest.raises(UserError, match='seed_6 is no finished run'):
    run.run_seeds(out, 4, 3, 'default', 'stage_1_only', base)


@pytest.mark.parametrize(
  ('seed', 'preset', 'missing', 'message'),
  [
    (1, 'default', None, 'has seed 0 and preset default, not seed 1'),
    (0, 'long', None, 'and preset long: name a run that has'),
    (0, 'default', 'results.json', 'no finished run of mmicl demo'),
    (0, 'default', f'language/{model_dir.MODEL}', 'and language/'),
  ],
)
def test_a_run_that_does_not_fit_is_refused(
  tmp_path, seed, preset, missing, message
):
  base = finished(tmp_path / 'base')
  if missing:
    (base / missing).unlink()
  with pytest.raises(UserError, match=message):
    read_pretrained(base, seed, preset)
