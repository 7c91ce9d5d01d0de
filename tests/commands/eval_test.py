"""What `mmicl eval` and `mmicl merge` refuse, in one sentence."""

import json

import pytest
from answer_jobs import Echo, make_job, write
from benchmark_trees import TREES

from mmicl_jax.__main__ import main
from mmicl_jax.evaluation.declaration import names
from mmicl_jax.inference import shards


def refused(capsys, *command):
  assert main([*command]) == 2
  found = capsys.readouterr()
  said = [x for x in found.err.splitlines() if not x.endswith(' to go')]
  assert not found.out and len(said) == 1, found
  return said[0]


def test_the_list_has_all_benchmarks(capsys):
  assert main(['eval', '--list', '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  assert [row['task'] for row in rows] == names()
  by = {row['task']: row['answered by'] for row in rows}
  assert by['iconqa'] == 'generation and ranking'
  assert by['winoground'] == 'ranking' and by['mme'] == 'generation'


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--task', 'mmee'], '--task mmee: unknown'),
    (['--task', 'vsr,vsr'], 'vsr twice'),
    (['--shots', '2,x'], '--shots 2,x: give numbers'),
    (['--shots', '20'], '--shots 20: give 0 to 19'),
    (['--limit', '0'], '--limit 0'),
    (['--shard', '2/2'], '--shard 2/2: I is from 0 to N - 1'),
    (['--prompts', '0,9'], '--prompts 0,9: give all'),
    (['--shot_source', 'nearby'], '--shot_source nearby: choose of random'),
    (['--splits', 'tset'], "vsr has no split 'tset'"),
    (['--task', 'pope'], 'coco_pope_random.json is not there'),
    (['--raw', 'nowhere'], 'nowhere does not exist'),
    (['--workers', '0'], '--workers 0'),
    (['--raw', 'gs://a/b'], '--raw gs://a/b is on a bucket'),
  ],
)
def test_mistakes_are_named_before_a_model_is_loaded(
  tmp_path, capsys, flags, words
):
  TREES['vsr'](tmp_path / 'raw')
  command = ['eval', '--checkpoint', str(tmp_path / 'none'), '--task', 'vsr']
  command += ['--raw', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
  assert words in refused(capsys, *command, *flags)


def test_a_lost_picture_is_named_unless_it_may_be_left_out(tmp_path, capsys):
  raw = TREES['vsr'](tmp_path / 'raw')
  (raw / 'images/test1.jpg').unlink()
  command = ['eval', '--checkpoint', str(tmp_path / 'none'), '--task', 'vsr']
  command += ['--raw', str(raw), '--out', str(tmp_path / 'out')]
  command += ['--workers', '1']
  said = refused(capsys, *command)
  assert 'vsr: test, item 1 cannot be asked (missing_file)' in said
  # With it, the next thing that is missing is the model.
  said = refused(capsys, *command, '--allow_partial')
  assert 'none does not exist' in said


@pytest.mark.parametrize(
  'change, words',
  [
    ({'forms': []}, '"forms" is empty'),
    ({'froms': ['x']}, 'froms'),
    ({'answering': {'by': 'guessing'}}, '"by" is'),
    ({'answering': {'by': 'ranking'}}, 'needs "candidates"'),
    ({'decoding': {'num_beams': 0}}, 'num_beams'),
    ({'dataset': 'vrs'}, '"dataset" is \'vrs\''),
  ],
)
def test_a_declaration_is_checked(tmp_path, capsys, change, words):
  value = {'dataset': 'vsr', 'scorer': 'vsr', 'forms': ['{statement}']}
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps(value | change))
  TREES['vsr'](tmp_path / 'raw')
  command = ['eval', '--checkpoint', 'none', '--task', str(path)]
  command += ['--raw', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
  assert words in refused(capsys, *command)


@pytest.fixture
def parts(tmp_path):
  """Three shards of forty answers, and the whole."""
  write(tmp_path / 'in.jsonl')
  whole = make_job(tmp_path)
  whole.run(Echo(), whole.check())
  for i in range(3):
    path = tmp_path / f'part{i}.jsonl'
    job = make_job(tmp_path, target=path, block=4, shard=(i, 3))
    job.run(Echo(), job.check())
    told = shards.shard_facts((i, 3), 4, 40)
    shards.sidecar(path).write_text(json.dumps(told))
  return tmp_path


def merge(folder, *names):
  paths = [str(folder / f'part{i}.jsonl') for i in names]
  return ['merge', str(folder / 'merged.jsonl'), *paths]


def test_shards_of_answers_are_the_whole_file(parts, capsys):
  assert main(merge(parts, 2, 0, 1)) == 0
  whole = (parts / 'out.jsonl').read_bytes()
  assert (parts / 'merged.jsonl').read_bytes() == whole
  sizes = [
    (parts / f'part{i}.jsonl').read_bytes().count(b'\n') for i in range(3)
  ]
  assert sizes == [16, 12, 12]


@pytest.mark.parametrize(
  'names, words',
  [
    ((0, 1), 'shard 2/3 is missing'),
    ((0, 1, 1, 2), 'are both shard 1/3'),
    ((0, 3), 'part3.jsonl does not exist'),
  ],
)
def test_shards_that_do_not_belong_together(parts, capsys, names, words):
  assert words in refused(capsys, *merge(parts, *names))
  assert not (parts / 'merged.jsonl').exists()


def test_shards_on_a_bucket_are_refused(tmp_path, capsys):
  for out, shard in (('x', 'gs://b/part0'), ('memory://b/x', str(tmp_path))):
    said = refused(capsys, 'merge', out, shard)
    assert 'is kept on this machine' in said and '://b/' in said


def test_a_shard_that_is_not_complete_or_of_another_run(parts, capsys):
  path, all_ = parts / 'part1.jsonl', merge(parts, 0, 1, 2)
  data = path.read_bytes()
  path.write_bytes(data[: data.rindex(b'{')])
  assert 'part1.jsonl is not complete' in refused(
    capsys, *merge(parts, 0, 1, 2)
  )
  path.write_bytes(data.replace(b'"model": "echo"', b'"model": "other"'))
  assert 'another model than' in refused(capsys, *all_)
  path.write_bytes(data + data[data.index(b'\n') + 1 :])
  assert 'more lines than' in refused(capsys, *all_)
  shards.sidecar(path).unlink()
  assert 'does not say which shard' in refused(capsys, *all_)
  assert not (parts / 'merged.jsonl').exists()


def test_a_shard_goes_on_in_its_blocks(parts):
  """A block that was answered in part is answered again as a whole."""
  path = parts / 'part0.jsonl'
  data = path.read_bytes()
  lines = data.splitlines(keepends=True)
  path.write_bytes(b''.join(lines[:6]))
  echo = Echo()
  job = make_job(parts, target=path, block=4, shard=(0, 3))
  job.run(echo, job.check())
  assert path.read_bytes() == data
  assert echo.asked[:4] == [json.loads(line)['line'] for line in lines[4:8]]
