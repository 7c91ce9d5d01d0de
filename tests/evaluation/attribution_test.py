"""What carried an answer, by scores of models that are known."""

import json

import numpy as np
import pytest
import tiny_dir
from keyed_prompts import OTHERS, follows_the_key, prompts, records_in

import mmicl_jax as mmicl
from mmicl_jax.__main__ import main
from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record, write_records
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.attribution import effects, judged, prompt_scores
from mmicl_jax.evaluation.changed_prompts import (
  UNCHANGED,
  PromptChanger,
)
from mmicl_jax.evaluation.explanation import explain_records, explainable


def lines_of(score, count=12):
  lines, keys = [], []
  for i, (key, example) in enumerate(prompts(count)):
    made = PromptChanger(example, OTHERS, str(i)).make()
    lines.append(judged(made, score(made)))
    keys.append(key)
  return keys, lines


def test_the_demonstration_that_tells_the_answer_ranks_first():
  keys, lines = lines_of(follows_the_key)
  for key, line in zip(keys, lines, strict=True):
    assert line[UNCHANGED]['right'] and line['candidates'][0]
    assert np.argmax(line['carried']) == key
    assert line['carried'][key] == pytest.approx(4.9)
    rest = [x for j, x in enumerate(line['carried']) if j != key]
    assert rest == [0, 0, 0]


def test_images_that_do_not_matter_have_no_effect():
  _, lines = lines_of(follows_the_key)
  rows = {row['kind']: row for row in effects(lines)}
  for kind in ('swap_image', 'blank_image', 'swap_all_images', 'permute'):
    row = rows[kind]
    assert row['records'] == 12
    assert row['change'] == row['accuracy_change'] == 0
    assert row['change_interval'] == row['accuracy_interval'] == (0, 0)
  flipped = rows['flip_all_labels']
  assert flipped['accuracy_before'] == 1 and flipped['accuracy'] == 0
  assert flipped['answers_changed'] == 1
  # One of four demonstrations matters.
  assert rows['drop']['change'] == pytest.approx(-4.9 / 4)
  assert rows['drop']['accuracy'] == pytest.approx(0.75)
  assert rows['text_only']['change'] == 0


def test_a_model_that_tells_nothing_apart_is_never_right():
  _, lines = lines_of(lambda ones: [[-1.0] * len(x.candidates) for x in ones])
  assert not any(line[UNCHANGED]['right'] for line in lines)


def test_prompts_that_are_too_long_are_left_out():
  def short_ones(ones):
    scores = follows_the_key(ones)
    size = len(ones[0].example.inputs)
    return [
      None if len(one.example.inputs) > size else score
      for one, score in zip(ones, scores, strict=True)
    ]

  _, lines = lines_of(short_ones, 3)
  kinds = {one['kind'] for line in lines for one in line['changed']}
  assert 'drop' in kinds and 'repeat' not in kinds
  made = PromptChanger(next(prompts(1))[1], OTHERS).make()
  assert judged(made, [None] * len(made)) is None


def test_files_and_page(tmp_path):
  path = records_in(tmp_path)
  chosen, left_out = explainable(path)
  out = tmp_path / 'out'
  found = explain_records(
    chosen, left_out, follows_the_key, out, {'checkpoint': 'c', 'input': 'i'}
  )
  assert found['left_out'] == {'no demonstrations': 1, 'no answer': 1}
  assert found['records'] == 3 and found['accuracy'] == 1
  assert json.loads((out / 'explain.json').read_text())['records'] == 3
  lines = (out / 'explain.jsonl').read_text().splitlines()
  assert [json.loads(line)['id'] for line in lines] == ['r0', 'r1', 'r2']
  page = (out / 'index.html').read_text()
  assert page.count('<details class="card"') == 3
  assert page.count('<img src="data:image/jpeg') == 9
  assert '+4.90' in page and '<script' not in page and '://' not in page


def test_names_of_images_without_demonstrations(tmp_path):
  images = ['a.png', 'b.png']
  records = []
  for i in range(4):
    query = Turn('which is larger?', images, f'image {{{i % 2}}}')
    one = assemble(query)
    records.append(Record(one.inputs, images, one.targets, id=i))
  path = tmp_path / 'named.jsonl'
  write_records(path, records)
  with pytest.raises(UserError, match='--zero_shot'):
    explainable(path)
  chosen, left_out = explainable(path, zero_shot=True)
  assert len(chosen) == 4 and not left_out

  def reads_declarations(ones):
    """Without them it says what comes first in the alphabet."""
    found = []
    for one in ones:
      known = 'image 0 is <image0>' in one.example.inputs
      said = one.candidates[0] if known else min(one.candidates)
      found.append([-0.1 if c == said else -5.0 for c in one.candidates])
    return found

  facts = {'checkpoint': 'c', 'input': 'i'}
  found = explain_records(
    chosen, {}, reads_declarations, tmp_path / 'out', facts
  )
  assert found['accuracy'] == 1
  lines = [json.loads(x) for x in (tmp_path / 'out/explain.jsonl').open()]
  assert [x['candidates'] for x in lines[:2]] == [
    ['image 0', 'image 1'],
    ['image 1', 'image 0'],
  ]
  assert all(x['carried'] == [] for x in lines)
  rows = {row['kind']: row['accuracy'] for row in found['effects']}
  assert list(rows) == ['no_declarations', 'no_proxies', 'rename', 'shuffle']
  assert rows['no_declarations'] == 0.5


def refused(capsys, *arguments):
  assert main(['explain', *map(str, arguments)]) == 2
  lines = capsys.readouterr().err.splitlines()
  assert [line for line in lines if line.startswith('mmicl: ')] == lines[-1:]
  return lines[-1]


def test_mistakes_are_named_before_a_model_is_loaded(tmp_path, capsys):
  path, out = records_in(tmp_path, 1), tmp_path / 'out'
  command = ['--checkpoint', tmp_path / 'none', '--out', out, '--input']
  assert 'none does not exist' in refused(capsys, *command, path)
  assert '--limit 0' in refused(capsys, *command, path, '--limit', '0')
  write_records(tmp_path / 'bad.jsonl', [Record('what?', [], 'it')])
  said = refused(capsys, *command, tmp_path / 'bad.jsonl')
  assert 'bad.jsonl:1: no demonstrations' in said
  (tmp_path / 'empty.jsonl').write_text('')
  assert 'no records' in refused(capsys, *command, tmp_path / 'empty.jsonl')
  assert 'lost.jsonl' in refused(capsys, *command, tmp_path / 'lost.jsonl')
  assert '--raw is for --task' in refused(capsys, *command, path, '--raw', 'x')
  assert 'give --input FILE, or --task' in refused(capsys, *command[:4])
  task = [*command[:4], '--raw', tmp_path, '--task']
  assert '--task vrs: unknown' in refused(capsys, *task, 'vrs')
  assert '--shots 0' in refused(capsys, *task, 'vsr', '--shots', '0')
  assert 'is not there' in refused(capsys, *task, 'pope')
  assert 'needs --raw' in refused(capsys, *command[:4], '--task', 'vsr')
  assert '--shard 2/2' in refused(capsys, *command, path, '--shard', '2/2')
  assert not out.exists()


@pytest.mark.slow
def test_a_model_scores_as_ever(tmp_path, capsys):
  (tmp_path / 'model').mkdir()
  tiny_dir.make(tmp_path / 'model')
  path, out = records_in(tmp_path), tmp_path / 'out'
  command = ['--checkpoint', tmp_path / 'model', '--input', path, '--out', out]
  many = ['--json', '--batch_size', '64']  # few shapes to compile
  assert main(['explain', *map(str, command), *many]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['records'] == 3 and found['left_out']['no answer'] == 1
  assert found == json.loads((out / 'explain.json').read_text())
  predictor = mmicl.load(tmp_path / 'model')
  chosen, _ = explainable(path)
  lines = [json.loads(x) for x in (out / 'explain.jsonl').open()]
  # Without the first of two demonstrations it is the last one alone.
  queries = [x for _, one in chosen for x in (one, one.keep_shots(1))]
  answers = [line['candidates'] for line in lines for _ in range(2)]
  scores = iter(predictor.score(queries, answers)[:, 0])
  for line in lines:
    drop = [one for one in line['changed'] if one['kind'] == 'drop'][0]
    assert drop['place'] == 0
    assert line[UNCHANGED]['log_prob'] == pytest.approx(next(scores), abs=1e-4)
    assert drop['log_prob'] == pytest.approx(next(scores), abs=1e-4)

  # A prompt that does not fit, and images that alone do not.
  made = PromptChanger(chosen[0][1], OTHERS).make()[:1]
  for length in (20, 3):
    small = mmicl.load(tmp_path / 'model', max_input_length=length)
    assert prompt_scores(small)(made) == [None]
  said = refused(
    capsys, *command[:4], '--out', tmp_path / 'o', '--max_input_length', '20'
  )
  assert 'longer than --max_input_length' in said
  assert not (tmp_path / 'o').exists()
  (tmp_path / '0-0.ppm').unlink()
  with pytest.raises(UserError, match='some.jsonl:1: .*0-0.ppm'):
    prompt_scores(predictor)(made)
