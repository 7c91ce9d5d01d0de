"""The benchmarks run and say what they should; no times are tested."""

import json

import jax
import numpy as np
import pytest
import tiny_dir

from mmicl_jax.__main__ import main
from mmicl_jax.bench import step as bench_train
from mmicl_jax.bench.answers import answers_table, cases, measure_answers
from mmicl_jax.bench.sides import save_random
from mmicl_jax.bench.workers import AnswerCase
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.presets import PRESETS


class Fake:
  """Sides whose times and answers are known."""

  names = ('ours', 'theirs', 'ours_bfloat16', 'theirs_bfloat16')

  def __init__(self):
    self.asked = []

  def ask(self, name, case):
    first = self.asked[-1:] != [name]
    self.asked.append(name)
    seconds = dict(zip(self.names, (1.0, 3.0, 0.5, 2.0), strict=True))[name] * (
      100 if first else 1
    )
    return seconds, np.array([[5, 6], [7, 8 if name == 'ours' else 9]])


def test_sides_take_turns_whose_first_run_is_not_timed():
  fake = Fake()
  result = measure_answers('tiny', AnswerCase('generate', 1, 8), fake, rounds=3)
  turns = [name for name in fake.names for _ in range(2)]
  assert fake.asked == [*fake.names, *turns * 3]
  assert result['ratio_of_medians'] == result['ratio_of_minima'] == 3
  assert result['ratio_in_bfloat16'] == 4
  assert result['agreement'] == 0.75 and result['target'] == 1.5
  assert result['units_per_second'] == 8 * 32
  [_, _, line] = answers_table([result]).splitlines()
  assert '3.000 (3.000 to 3.000)' in line and '75%' in line
  assert '3.00x | 3.00x | 1.5x | 4.00x' in line


class Clock:
  """Answers whose time is 5 seconds, and one for each token of theirs."""

  names = ('ours', 'theirs')

  def ask(self, name, case):
    each = {'ours': 0.5, 'theirs': 1.0}[name]
    return 5 + each * case.new_tokens, np.zeros((case.batch, case.new_tokens))


def test_a_step_is_what_longer_answers_take_more():
  case = AnswerCase('decode', 1, 4, new_tokens=8)
  result = measure_answers('tiny', case, Clock(), rounds=2)
  assert result['seconds'] == {'ours': [0.5, 0.5], 'theirs': [1.0, 1.0]}
  assert result['ratio_of_minima'] == 2 and result['units_per_second'] == 8
  read = result | {'bytes_per_second': 2352e9}
  assert '| 2352 GB/s |' in answers_table([read])
  assert '| 2352 GB/s, 49% |' in answers_table([read | {'bandwidth': 0.49}])


def test_cases():
  kinds = ('encode', 'generate', 'questions')
  found = cases(
    kinds, images=[1, 4], batches=[1, 8], beams=[1, 5], new_tokens=4
  )
  assert len(found) == len(set(found)) == 2 + 8 + 2
  assert len({case.name for case in found}) == 12


@pytest.mark.slow
def test_quality_of_eight_bits(tmp_path, capsys):
  tiny_dir.make(tmp_path)
  with open(tmp_path / 'in.jsonl', 'w') as file:
    for word in ('dog', 'cat', 'no red dog'):
      record = {'input_text': f'is it a {word}?', 'input_image': []}
      file.write(json.dumps(record) + '\n')
  arguments = ['--checkpoint', str(tmp_path), '--input']
  arguments += [str(tmp_path / 'in.jsonl'), '--json']
  assert main(['bench', 'quality', *arguments]) == 0
  float32, bfloat16, int8, _ = json.loads(capsys.readouterr().out)
  assert float32['same_answers'] == 1 and float32['logit_error'] == 0
  assert bfloat16['megabytes'] == pytest.approx(float32['megabytes'] / 2)
  assert int8['megabytes'] < 0.6 * float32['megabytes']
  assert 0 < int8['logit_error'] < 0.1 and 0 < bfloat16['logit_error'] < 0.1
  assert main(['bench', 'quality']) == 2


@pytest.mark.slow
def test_both_stages_run_on_both_sides(capsys):
  pytest.importorskip('transformers')
  arguments = ['bench', 'train', '--sizes', 'tiny', '--images', '2', '--json']
  assert main([*arguments, '--rounds', '2', '--stages', 'pretrain,tune']) == 0
  first, second = json.loads(capsys.readouterr().out)
  assert first['case'] == 'stage-1 step, batch 4, 2 images'
  for result in first, second:
    assert result['losses_within'] < 1e-4  # four steps from equal weights
    assert {len(x) for x in result['seconds'].values()} == {2}
  # Each stage has the FLOPs of its own step, whatever the seconds were.
  first, second = (
    r['model_flops_per_second'] * min(r['seconds']['ours'])
    for r in (first, second)
  )
  assert first > 0 and first != pytest.approx(second, rel=1e-6)


@pytest.mark.slow
def test_features_take_the_place_of_images(capsys):
  arguments = ['bench', 'features', '--sizes', 'tiny', '--images', '2']
  assert main([*arguments, '--rounds', '1']) == 0
  out, _ = capsys.readouterr()
  assert '| tiny | stage-2 step, batch 4, 2 images |' in out
  agreement = float(out.split('| within ')[1].removesuffix(' |\n'))
  assert agreement < 1e-4


@pytest.mark.slow
def test_no_step_that_is_timed_is_compiled(tmp_path, caplog):
  model_dir.write_config(tmp_path, PRESETS['tiny'])
  ours = bench_train.OurSteps(str(tmp_path), 'float32', 1)
  case = bench_train.StepCase(1, batch=1)

  def compiled():
    caplog.clear()
    with jax.log_compiles():
      ours.run(case)
    return 'Compiling jit' in caplog.text

  assert compiled()  # the first, which is not timed
  assert not compiled()


def test_random_weights_have_small_queries_as_those_of_t5(tmp_path):
  pytest.importorskip('transformers')
  config = PRESETS['tiny']
  save_random(config, str(tmp_path))
  _, params, _ = load_pretrained(tmp_path, dtype='float32', scan_layers=False)
  attention = params['t5']['encoder']['layers_0']['self_attention']
  sizes = {k: np.std(v['kernel']) for k, v in attention.items()}
  assert sizes['query'] / sizes['key'] == pytest.approx(
    config.t5.head_dim**-0.5, rel=0.2
  )
