"""`mmicl generate --engine ray`: rooms for actors, and two of them here."""

import importlib.util
import json
import sys

import pytest
import ray_here
import tiny_dir
import tiny_pictures
from answer_jobs import Echo, make_job, read, write

from mmicl_jax.__main__ import main
from mmicl_jax.errors import UserError
from mmicl_jax.inference import on_ray

HAS_RAY = importlib.util.find_spec('ray') is not None
HOST = {'CPU': 8.0, 'memory': 1e9}


@pytest.mark.parametrize(
  ('nodes', 'actors', 'needs', 'expected'),
  [
    ([HOST, HOST], None, None, (2, {'CPU': 1})),
    ([HOST], 3, None, (3, {'CPU': 1})),
    ([HOST | {'GPU': 4.0}, HOST], None, None, (4, {'GPU': 1})),
    ([HOST | {'TPU': 4.0}] * 2, None, None, (2, {'TPU': 4})),
    ([HOST | {'GPU': 4.0}] * 2, 3, 'GPU=2,CPU=4', (3, {'GPU': 2, 'CPU': 4})),
  ],
)
def test_as_many_actors_as_have_room(nodes, actors, needs, expected):
  assert on_ray.room(nodes, actors, on_ray.parse_needs(needs)) == expected


@pytest.mark.parametrize(
  ('actors', 'needs'), [(9, None), (1, 'GPU=1'), (None, 'TPU=4')]
)
def test_too_many_actors_are_refused(actors, needs):
  with pytest.raises(UserError, match='has room for [08] actors with'):
    on_ray.room([HOST], actors, on_ray.parse_needs(needs))


@pytest.mark.parametrize('text', ['GPU', 'GPU=x', '=1', 'GPU=0', 'GPU=1,'])
def test_needs_are_numbers(text):
  with pytest.raises(UserError, match='--actor_needs .*: give resources'):
    on_ray.parse_needs(text)


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--actors', '2'], 'belong to --engine ray'),
    (['--engine', 'ray', '--shard', '0/2'], 'leave out --shard'),
    (['--engine', 'ray', '--actors', '0'], '--actors 0: give 1'),
  ],
)
def test_mistakes_with_engines(arguments, words, capsys, tmp_path):
  write(tmp_path / 'in.jsonl', 1)
  files = ['--input', str(tmp_path / 'in.jsonl'), '--output', 'out.jsonl']
  command = ['generate', '--checkpoint', '/nowhere', *files]
  assert main([*command, *arguments]) == 2
  assert words in capsys.readouterr().err


class Other(Echo):
  digest = 'other'


def nowhere():
  raise UserError('/nowhere: no model.')


class Changing:
  """Loads another model in each actor."""

  def __call__(self):
    Changing.made = getattr(Changing, 'made', 0) + 1
    return (Echo if Changing.made % 2 else Other)()


def test_what_actors_answer_is_the_same_file(tmp_path, monkeypatch):
  ray_here.install(monkeypatch)
  write(tmp_path / 'in.jsonl', line20='{"input_text"')
  whole = make_job(tmp_path, skip_bad_records=True)
  whole.run(Echo(), whole.check())
  changes = {'block': 16, 'skip_bad_records': True}
  job = make_job(tmp_path, target=tmp_path / 'far.jsonl', **changes)
  answered = on_ray.OnRay(job, Echo, 3)
  summary = job.run_elsewhere(answered, job.check())
  assert summary == {'kept': 0, 'answered': 39, 'bad': 1}
  assert job.target.read_bytes() == whole.target.read_bytes()
  # It goes on inside a window, and not after another model.
  lines = job.target.read_bytes().splitlines(keepends=True)
  job.target.write_bytes(b''.join(lines[:20]))
  assert job.run_elsewhere(answered, job.check())['kept'] == 20
  assert job.target.read_bytes() == whole.target.read_bytes()
  job.target.write_bytes(
    b''.join(lines[:20]).replace(b'"model": "echo"', b'"model": "other"')
  )
  with pytest.raises(UserError, match='far.jsonl:1: answered by another model'):
    job.run_elsewhere(answered, job.check())
  # Without skipping it ends at the bad record, behind those before it.
  strict = make_job(tmp_path, target=tmp_path / 'strict.jsonl', block=16)
  with pytest.raises(UserError, match='in.jsonl:20: '):
    strict.run_elsewhere(on_ray.OnRay(strict, Echo, 2), strict.check())
  assert len(read(strict.target)) == 19


@pytest.mark.parametrize(
  ('load', 'dies', 'words', 'kept'),
  [
    (nowhere, None, '/nowhere: no model', 0),
    (Changing(), None, 'two actors loaded different models', 16),
    (Echo, 2, 'gave up .its node is gone.: run the same command again', 32),
  ],
)
def test_what_ends_actors_is_a_sentence(
  tmp_path, monkeypatch, load, dies, words, kept
):
  ray_here.install(monkeypatch, dies_after=dies)
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path, block=16)
  with pytest.raises(UserError, match=words):
    job.run_elsewhere(on_ray.OnRay(job, load, 2), job.check())
  found = read(job.target) if job.target.exists() else []
  assert len(found) == kept


def test_without_ray_a_sentence_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'ray', None)
  with pytest.raises(UserError, match=r"pip install 'mmicl_jax\[ray\]'"):
    on_ray.OnRay(make_job(tmp_path), Echo)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is absent: pip install '.[ray]'")
def test_two_actors_write_what_one_process_writes(tmp_path, capsys):
  """Bad records too; and a run that was cut off goes on."""
  import ray

  tiny_dir.make(tmp_path)
  for i in range(3):
    picture = tiny_pictures.still(i, kind='PNG')
    (tmp_path / f'{i}.png').write_bytes(picture)
  source = tmp_path / 'in.jsonl'
  lines = [
    {
      'id': i,
      'input_text': f'image 0 is <image0>图. what is it? {"dog " * (i % 5)}',
      'input_image': [f'{i % 3}.png' if i != 7 else 'absent.png'],
    }
    for i in range(40)
  ]
  source.write_text('\n'.join(map(json.dumps, lines)) + '\n')
  command = ['generate', '--checkpoint', str(tmp_path), '--input', str(source)]
  command += ['--max_new_tokens', '3', '--batch_size', '1']
  command += ['--skip_bad_records', '--output']
  one, two = tmp_path / 'one.jsonl', tmp_path / 'two.jsonl'
  ray_flags = ['--engine', 'ray', '--actors', '2']
  try:
    assert main([*command, str(one)]) == 0
    assert main([*command, str(two), *ray_flags]) == 0
    assert 'absent.png' in read(one)[7]['error']
    assert two.read_bytes() == one.read_bytes()
    two.write_bytes(one.read_bytes()[:-700])
    capsys.readouterr()
    assert main([*command, str(two), *ray_flags]) == 0
    assert ' were there' in capsys.readouterr().err
    assert two.read_bytes() == one.read_bytes()
  finally:
    ray.shutdown()
