"""`mmicl generate`: files of records, interrupted, damaged, and one prompt."""

import argparse
import json
import os
import subprocess
import sys
import threading

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_dir
from answer_jobs import Echo, make_job, read, write
from PIL import Image

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints import store
from mmicl_jax.commands import generate
from mmicl_jax.errors import UserError
from mmicl_jax.inference import input_lines
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.runtime import outputs
from mmicl_jax.runtime.mirror import Mirror


@pytest.mark.parametrize(
  'more, before', [([], True), (['--beam_search', 'transformers4'], False)]
)
def test_answers_from_before_there_was_a_choice_of_search_go_on(more, before):
  parser = argparse.ArgumentParser()
  generate.add_arguments(parser)
  given = ['--checkpoint', '/runs/demo', '--num_beams', '4', *more]
  args = parser.parse_args(given)
  former = generate._former_settings(args, generate._options(args))
  # The digest that the same command had then.
  assert (input_lines.short_digest(former) == 'c5e42e6d') == before


def test_answers_in_the_order_of_the_records(tmp_path):
  write(tmp_path / 'in.jsonl', line3='')  # blank lines are no records
  job = make_job(tmp_path)
  summary = job.run(Echo(), job.check())
  assert summary == {'kept': 0, 'answered': 39, 'bad': 0}
  found = read(job.target)
  assert [v['line'] for v in found] == [1, 2, *range(4, 41)]
  assert [v['text'] for v in found[:3]] == [f'question {i}' for i in (0, 1, 3)]


@pytest.mark.parametrize('cut', [0, 1, 700, 1500])
def test_an_interrupted_run_continues(tmp_path, cut):
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path)
  job.run(Echo(), job.check())
  whole = job.target.read_bytes()
  job.target.write_bytes(whole[: len(whole) - cut])
  echo = Echo()
  kept = job.check()
  job.run(echo, kept)
  assert job.target.read_bytes() == whole
  assert echo.asked == list(range(kept.lines + 1, 41))
  assert (len(echo.asked) > 0) == (cut > 0)


def test_answers_of_another_run_are_not_continued(tmp_path):
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path)
  job.run(Echo(), job.check())
  with pytest.raises(UserError, match=r'out.jsonl:1: written with other'):
    make_job(tmp_path, settings={'seed': 1}).check()
  record = {'id': 'other', 'input_text': 'x', 'input_image': []}
  write(tmp_path / 'in.jsonl', line5=json.dumps(record))
  with pytest.raises(UserError, match=r'out.jsonl:5: not the answer'):
    job.check()
  job.target.write_text('hello\n')
  with pytest.raises(UserError, match=r'out.jsonl:1: not an answer'):
    job.check()
  assert job.target.read_text() == 'hello\n'


BAD = {
  'no JSON': '{"input_text"',
  'images': '{"input_text": "a", "input_image": ["a.png"]}',
  'cannot read': json.dumps(
    {'input_text': '<image0>图', 'input_image': ['a.txt']}
  ),
}


def test_answers_of_another_model_are_not_continued(tmp_path):
  """As after training has saved a newer checkpoint in the same MODEL_DIR."""
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path)
  job.run(Echo(), job.check())
  whole = job.target.read_bytes()
  job.target.write_bytes(whole[:-700])
  newer = Echo()
  newer.digest = 'newer'
  with pytest.raises(UserError, match='out.jsonl:1: answered by another model'):
    job.run(newer, job.check())
  assert job.target.read_bytes() == whole[:-700] and newer.asked == []


def test_answers_to_an_edited_record_are_not_continued(tmp_path):
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path)
  job.run(Echo(), job.check())
  edited = {'id': 'q4', 'input_text': 'another', 'input_image': []}
  write(tmp_path / 'in.jsonl', line5=json.dumps(edited))
  with pytest.raises(UserError, match='out.jsonl:5: .*which was another one'):
    job.check()


@pytest.mark.parametrize('text', ['one line', '{"id": "a"}', '{', 'a\nb'])
def test_a_file_that_is_not_ours_is_left_alone(tmp_path, text):
  """Also without a final newline: it is no answer that was cut off."""
  write(tmp_path / 'in.jsonl')
  for overwrite in (False, True):
    job = make_job(tmp_path, overwrite=overwrite)
    job.target.write_text('')
    job.place.write_text(text)
    with pytest.raises(UserError, match='not an answer of this program'):
      job.check()
    assert job.place.read_text() == text


def test_overwriting_keeps_the_old_until_the_new_is_complete(tmp_path):
  write(tmp_path / 'in.jsonl')
  job = make_job(tmp_path)
  job.target.write_text('precious\n')
  job.target.chmod(0o600)
  job = make_job(tmp_path, overwrite=True)
  write(tmp_path / 'in.jsonl', line20=BAD['no JSON'])
  with pytest.raises(UserError, match='out.jsonl.new, where the same command'):
    job.run(Echo(), job.check())
  assert job.target.read_text() == 'precious\n'
  assert len(read(job.place)) == 19
  write(tmp_path / 'in.jsonl')
  echo = Echo()
  job.run(echo, job.check())
  assert echo.asked[0] == 20  # it went on
  assert len(read(job.target)) == 40 and not job.place.exists()
  assert job.target.stat().st_mode & 0o777 == 0o600
  # What another run left beside is begun anew.
  other = make_job(tmp_path, overwrite=True, settings={'seed': 1})
  other.place.write_bytes(job.target.read_bytes())
  assert other.run(Echo(), other.check())['answered'] == 40


def test_answers_of_the_former_format_are_continued(tmp_path):
  """Lines that 7426302 wrote, with the digest of its settings."""
  write(tmp_path / 'in.jsonl')
  former = {'checkpoint': '/models/a', 'shots': None, 'stop': (), 'seed': 0}
  line = '{"line": %d, "id": "q%d", "text": "a", "score": -1.0, %s}'
  settings = '"settings": "e9eea52a"'
  lines = [line % (i + 1, i, settings) for i in range(2)]
  job = make_job(tmp_path, former=former)
  job.target.write_text('\n'.join(lines) + '\n{"line": 3')
  assert job.run(Echo(), job.check()) == {'kept': 2, 'answered': 38, 'bad': 0}
  assert job.target.read_text().splitlines()[:2] == lines
  assert job.check().lines == 40
  with pytest.raises(UserError, match='written with other settings'):
    make_job(tmp_path, former=former | {'seed': 1}).check()


def test_nothing_answered_is_no_success(tmp_path):
  (tmp_path / 'in.jsonl').write_text('\n')
  with pytest.raises(UserError, match='no records in it'):
    make_job(tmp_path).check()
  (tmp_path / 'in.jsonl').write_text('{\n{\n')
  job = make_job(tmp_path, skip_bad_records=True)
  with pytest.raises(UserError, match='none of the 2 records'):
    job.run(Echo(), job.check())


@pytest.mark.parametrize('problem', BAD)
def test_a_bad_record_stops_or_is_noted(tmp_path, problem):
  write(tmp_path / 'in.jsonl', line20=BAD[problem])
  job = make_job(tmp_path)
  with pytest.raises(UserError, match=r'in.jsonl:20: '):
    job.run(Echo(), job.check())
  assert [v['line'] for v in read(job.target)] == list(range(1, 20))
  job = make_job(tmp_path, skip_bad_records=True)
  summary = job.run(Echo(), job.check())
  assert summary == {'kept': 19, 'answered': 20, 'bad': 1}
  found = read(job.target)
  assert [v['line'] for v in found] == list(range(1, 41))
  assert 'in.jsonl:20' in found[19]['error'] and 'text' not in found[19]


def test_the_input_is_not_read_into_memory(tmp_path):
  """Never more windows ahead than one."""
  write(tmp_path / 'in.jsonl', count=200)
  echo, prepared = Echo(), []
  prompt, answers = echo.prompt, echo.answers

  def count(query, shots=(), style='plain'):
    prepared.append(query)
    return prompt(query)

  def check(prompts, options, rows):
    assert len(prepared) - len(echo.asked) <= 2 * 16
    return answers(prompts, options, rows)

  echo.prompt, echo.answers = count, check
  job = make_job(tmp_path)
  assert job.run(echo, job.check())['answered'] == 200


@pytest.mark.slow
def test_command_line(tmp_path, capsys):
  tiny_dir.make(tmp_path)
  Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save(tmp_path / 'a.png')
  record = {'input_text': 'image 0 is <image0>图. what is it?'}
  record |= {'input_image': ['a.png'], 'id': 3}
  (tmp_path / 'in.jsonl').write_text(json.dumps(record) + '\n')
  common = ['generate', '--checkpoint', str(tmp_path), '--max_new_tokens', '4']
  question = ['--prompt', 'image {0} is {image}. what is it?']
  image = ['--image', str(tmp_path / 'a.png')]
  kept = ['--cache_dir', str(tmp_path / 'visual'), '--mesh', 'data=1']
  assert main([*common, *question, *image, *kept, '--json']) == 0
  assert len(list((tmp_path / 'visual').rglob('*.keys.npy'))) == 1
  answer = json.loads(capsys.readouterr().out)
  out = tmp_path / 'deep' / 'out.jsonl'
  files = ['--input', str(tmp_path / 'in.jsonl'), '--output', str(out)]
  assert main([*common, *files]) == 0
  [line] = read(out)
  assert line['text'] == answer['text'] and line['id'] == 3
  assert line['score'] == pytest.approx(answer['score'], abs=1e-5)
  capsys.readouterr()
  assert main([*common, *question, *image, '--stream']) == 0
  assert capsys.readouterr().out == answer['text'] + '\n'


@pytest.mark.slow
def test_files_that_matter_are_left_alone(tmp_path, capsys):
  config = tiny_dir.make(tmp_path)
  source, target = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  write(source, 2)
  records = source.read_bytes()
  (tmp_path / 'link').symlink_to(source)
  common = ['generate', '--checkpoint', str(tmp_path), '--max_new_tokens', '2']

  def fails(*arguments):
    assert main([*common, *map(str, arguments)]) == 2
    return capsys.readouterr().err

  for output in (source, tmp_path / 'link'):
    said = fails('--input', source, '--output', output)
    assert 'is read by this command' in said
  assert source.read_bytes() == records
  assert main([*common, '--input', str(source), '--output', str(target)]) == 0
  capsys.readouterr()
  answers = target.read_bytes()
  # A newer checkpoint has other answers.
  params = init_params(config, jax.random.key(1))
  store.save_weights(tmp_path, params, step=8)
  said = fails('--input', source, '--output', target)
  assert 'answered by another model' in said
  assert target.read_bytes() == answers
  # One that diverged has none.
  kernel = params['projector']['kernel'].at[0, 0].set(jnp.nan)
  params['projector'] = params['projector'] | {'kernel': kernel}
  store.save_weights(tmp_path, params, step=9)
  said = fails('--input', source, '--output', target, '--overwrite')
  assert 'projector/kernel holds NaN' in said and target.read_bytes() == answers


def test_a_second_process_is_told(tmp_path, capsys):
  write(tmp_path / 'in.jsonl')
  files = ['--input', str(tmp_path / 'in.jsonl')]
  files += ['--output', str(tmp_path / 'out.jsonl')]
  script = 'import sys\nfrom mmicl_jax.runtime import lock\n'
  script += 'with lock.only_writer(sys.argv[1]):\n  print(flush=True)\n'
  script += '  sys.stdin.read()'
  command = [sys.executable, '-c', script, files[-1]]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, **pipes) as other:
    other.stdout.readline()
    assert main(['generate', '--checkpoint', '/nowhere', *files]) == 2
    other.kill()
  assert 'being written by another process' in capsys.readouterr().err


def test_records_come_through_a_pipe(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  records = write(tmp_path / 'in.jsonl', 5).read_text()
  writer = threading.Thread(
    target=(tmp_path / 'pipe').write_text, args=(records,)
  )
  writer.start()
  with outputs.readable_twice(tmp_path / 'pipe') as source:
    job = make_job(tmp_path, source=source, name='/dev/stdin')
    assert job.run(Echo(), job.check())['answered'] == 5
  writer.join()
  assert not source.exists()


@pytest.mark.slow
def test_compiled_programs_are_kept(tmp_path):
  """In a process of its own: the folder is set before anything is compiled."""
  tiny_dir.make(tmp_path)
  folder = tmp_path / 'compiled'
  command = [sys.executable, '-m', 'mmicl_jax', 'generate', '--prompt', 'dog']
  command += ['--checkpoint', str(tmp_path), '--max_new_tokens', '2']
  command += ['--compilation_cache', str(folder)]

  def run():
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    names = {p.name for p in folder.iterdir() if p.name.endswith('-cache')}
    return result.stdout, names

  first = run()
  assert any(name.startswith('jit_decode') for name in first[1])
  assert run() == first


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], 'give --prompt TEXT, or --input'),
    (['--prompt', 'a', '--input', 'b'], 'give --prompt'),
    (['--input', 'in.jsonl'], '--input needs --output'),
    (['--prompt', 'a', '--output', 'b'], '--output belongs'),
    (['--prompt', 'a', '--stream', '--json'], 'leave out --json'),
    (['--input', 'a', '--output', 'b', '--stream'], '--stream belongs'),
    (['--prompt', 'a', '--image', 'x.png', '--seed', '1'], 'nowhere'),
    (['--input', 'absent.jsonl', '--output', 'b'], 'absent.jsonl could not'),
    (['--prompt', 'a {image}'], '1 {image} slots but 0 images'),
    (['--prompt', 'a', '--temperature', '0'], 'temperature'),
  ],
)
def test_mistakes_are_one_sentence(arguments, words, capsys, tmp_path):
  assert main(['generate', '--checkpoint', '/nowhere', *arguments]) == 2
  message = capsys.readouterr().err
  assert words in message and message.count('\n') == 1


def test_answers_on_a_bucket_go_on_from_what_was_sent(tmp_path, monkeypatch):
  bucket = fsspec.filesystem('memory')
  monkeypatch.setattr(bucket, 'store', {})
  monkeypatch.setattr(bucket, 'pseudo_dirs', [''])
  write(tmp_path / 'in.jsonl')
  expected = make_job(tmp_path)
  expected.run(Echo(), expected.check())
  whole = expected.target.read_bytes()

  def job(**changes):
    folder = Mirror('memory://bucket/answers')
    target = folder.local / 'a.jsonl'
    return make_job(tmp_path, folder=folder, target=target, **changes)

  class Stopped(Echo):
    def answers(self, prompts, options, rows):
      if rows[0] > 16:  # the first window was sent at once
        sent.append(bucket.cat_file('/bucket/answers/a.jsonl'))
        raise KeyboardInterrupt
      return super().answers(prompts, options, rows)

  sent, first = [], job()
  with pytest.raises(KeyboardInterrupt):
    first.run(Stopped(), first.check())
  assert whole.startswith(sent[0]) and sent[0].count(b'\n') == 16
  second, echo = job(), Echo()
  assert second.run(echo, second.check())['kept'] == 16
  assert min(echo.asked) == 17
  assert bucket.cat_file('/bucket/answers/a.jsonl') == whole
  # --overwrite: what is there stays until all is answered.
  third = job(overwrite=True)
  third.check()
  bucket.pipe_file('/bucket/answers/a.jsonl', b'old\n')
  third.run(Echo(), third.check())
  assert bucket.find('/bucket/answers') == ['/bucket/answers/a.jsonl']
  assert bucket.cat_file('/bucket/answers/a.jsonl') == whole
