"""Four processes of `mmicl generate --shard`, one of them killed and rerun."""

import json
import os
import signal
import subprocess
import sys

import pytest
from answer_jobs import read, write

from mmicl_jax.__main__ import main

# `mmicl generate`, whose model answers with the question. STOP_AT: before this
# record it says so and waits for ever.
SCRIPT = """
import os, signal, sys
import answer_jobs
from mmicl_jax.commands import generate
from mmicl_jax.__main__ import main

class Model(answer_jobs.Echo):
  def answers(self, prompts, options, rows):
    if int(os.environ.get('STOP_AT', 0)) in rows:
      print('stopped', flush=True)
      signal.pause()
    return super().answers(prompts, options, rows)

generate.load_predictor = lambda args: Model()
sys.exit(main(sys.argv[1:]))
"""


def start(*argv, **environment):
  paths = os.pathsep.join(filter(None, sys.path))
  return subprocess.Popen(
    [sys.executable, '-c', SCRIPT, 'generate', '--checkpoint', 'x', *argv],
    env=os.environ | {'PYTHONPATH': paths} | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_shards_of_which_one_was_killed_are_one_run(tmp_path, capsys):
  bad = {'line30': '{"input_text"', 'line31': ''}
  source = write(tmp_path / 'in.jsonl', 180, **bad)
  common = ['--input', str(source), '--batch_size', '2', '--skip_bad_records']

  def shard(i):
    out = ['--output', str(tmp_path / f'part_{i}.jsonl')]
    return [*common, *out, '--shard', f'{i}/4']

  # Blocks of 16: shard 2 has 33 to 48, 97 to 112 and 161 to 176.
  killed = start(*shard(2), STOP_AT='101')
  whole = start(*common, '--output', str(tmp_path / 'whole.jsonl'))
  others = [start(*shard(i)) for i in (0, 1, 3)]
  assert killed.stdout.readline() == 'stopped\n'
  killed.send_signal(signal.SIGKILL)
  killed.communicate()
  assert [v['line'] for v in read(tmp_path / 'part_2.jsonl')] == [
    *range(34, 50)
  ]
  for process in (whole, *others):
    _, said = process.communicate()
    assert process.returncode == 0, said
  parts = [str(tmp_path / f'part_{i}.jsonl') for i in range(4)]
  merged = tmp_path / 'merged.jsonl'
  assert main(['merge', str(merged), *parts]) == 2
  assert 'part_2.jsonl is not complete' in capsys.readouterr().err
  again = start(*shard(2))
  _, said = again.communicate()
  assert again.returncode == 0 and '16 were there' in said, said
  assert main(['merge', str(merged), *parts]) == 0
  assert merged.read_bytes() == (tmp_path / 'whole.jsonl').read_bytes()
  found = read(merged)
  assert len(found) == 179 and 'error' in json.dumps(found[29])
