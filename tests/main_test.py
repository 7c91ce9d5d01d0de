"""The `mmicl` command: dispatch, exit codes, and an example in every help."""

import io
import json
import os
import shlex
import subprocess
import sys
import types

import pytest

from mmicl_jax import __main__ as cli
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show


@pytest.fixture
def command(monkeypatch):
  """A command `try` that records its arguments and does what it is told."""
  module = types.ModuleType('try')
  module.seen, module.act = [], lambda: 0

  def add_arguments(parser):
    parser.add_argument('--gin_binding', action='append')
    parser.add_argument('--word')

  def main(args):
    module.seen.append(args)
    return module.act()

  module.add_arguments, module.main = add_arguments, main
  monkeypatch.setitem(sys.modules, 'mmicl_jax.commands.try', module)
  monkeypatch.setitem(cli.COMMANDS, 'try', 'do a trial run')
  return module


def fail(error):
  def act():
    raise error

  return act


def test_a_command_gets_its_arguments_and_gives_the_status(command):
  command.act = lambda: 7
  assert cli.main(['try', '--word', 'a']) == 7
  assert command.seen[0].word == 'a'


def test_gin_bindings_in_the_spelling_of_t5x(command):
  cli.main(['try', '--gin.TRAIN_STEPS=3', "--gin.NAME='a=b'"])
  assert command.seen[0].gin_binding == ['TRAIN_STEPS=3', "NAME='a=b'"]


@pytest.mark.parametrize(
  'error', [UserError('a.jsonl, line 3:\nno JSON'), OSError('a.jsonl, line 3')]
)
def test_an_error_of_the_user_is_one_line_and_status_2(command, capsys, error):
  command.act = fail(error)
  assert cli.main(['try']) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('mmicl: a.jsonl, line 3') and err.count('\n') == 1
  with pytest.raises(type(error)):
    cli.main(['try', '--debug'])


def test_an_error_of_the_system_names_its_file(command, capsys):
  command.act = fail(FileNotFoundError(2, 'No such file', 'a.jsonl'))
  assert cli.main(['try']) == 2
  said = capsys.readouterr().err
  assert said.startswith('mmicl: a.jsonl could not be used (No such file)')
  assert 'Errno' not in said


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_any_terminal_shows_what_is_said(command, monkeypatch, encoding):
  """The status is the same, and JSON is JSON."""
  raw = io.BytesIO()
  out = io.TextIOWrapper(raw, encoding=encoding)
  monkeypatch.setattr(sys, 'stdout', out)

  def act():
    show.print_json({'text': '图 😀'}, None)
    print('图 😀')
    return 2

  command.act = act
  assert cli.main(['try']) == 2
  out.flush()
  text = raw.getvalue().decode(encoding)
  assert json.loads(text.splitlines()[0]) == {'text': '图 😀'}
  assert text.splitlines()[1] in ('图 😀', '\\u56fe \\U0001f600')


@pytest.mark.parametrize(
  'argv',
  [['eval', '--list'], ['env', '--help'], ['data', 'build', '--list']],
  ids=' '.join,
)
def test_a_reader_that_has_gone_ends_a_command_in_silence(argv, monkeypatch):
  """Also where all fits into Python's buffer, and is written at the end."""
  monkeypatch.delenv('PYTHONUNBUFFERED', raising=False)
  read, write = os.pipe()
  os.close(read)
  ended = subprocess.run(
    [sys.executable, '-m', 'mmicl_jax', *argv],
    stdout=write,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.close(write)
  assert (ended.returncode, ended.stderr) == (cli.UNREAD, '')


def test_a_file_that_is_stdout_may_have_lost_its_reader(
  command, monkeypatch, capsys
):
  """As of --output /dev/stdout."""
  read, write = os.pipe()
  os.close(read)

  def act():
    try:
      os.write(write, b'x')
    except BrokenPipeError as error:
      raise UserError('/dev/stdout could not be written') from error

  command.act = act
  with open(write, 'w') as out:
    monkeypatch.setattr(sys, 'stdout', out)
    assert cli.main(['try']) == cli.UNREAD
  assert capsys.readouterr().err == ''


def test_a_broken_pipe_that_is_not_stdout_is_told(command, capfd):
  command.act = fail(BrokenPipeError(32, 'Broken pipe'))
  assert cli.main(['try']) == 2
  assert 'Broken pipe' in capfd.readouterr().err


def test_json_holds_no_nan(command, capsys):
  command.act = lambda: show.print_json({'score': float('nan')})
  assert cli.main(['try']) == 2
  out, err = capsys.readouterr()
  assert out == '' and 'not a number' in err


@pytest.mark.parametrize('name', ['generate', 'convert', 'data', 'bench'])
def test_a_forgotten_argument_is_one_line(name, capsys):
  with pytest.raises(SystemExit) as exit:
    cli.main([name])
  assert exit.value.code == 2
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1
  assert err.startswith('mmicl: ') and f'see mmicl {name} --help' in err


def test_a_bug_keeps_its_traceback(command):
  command.act = fail(ZeroDivisionError())
  with pytest.raises(ZeroDivisionError):
    cli.main(['try'])


def test_stopping_by_keyboard_is_no_traceback(command, capsys):
  command.act = fail(KeyboardInterrupt())
  assert cli.main(['try']) == 130
  assert capsys.readouterr().err == 'mmicl: stopped\n'


def test_a_stopped_process_waits_for_no_thread(command, monkeypatch):
  """A save that was interrupted has one that would never end."""
  command.act = fail(KeyboardInterrupt())
  monkeypatch.setattr(sys, 'argv', ['mmicl', 'try'])
  left = []
  monkeypatch.setattr(cli.os, '_exit', left.append)
  cli.main()
  assert left == [130]


def test_without_a_command_the_help_is_shown(capsys):
  assert cli.main([]) == 2
  out = capsys.readouterr().out
  assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_only_what_computes_may_keep_its_memory(name, monkeypatch, capsys):
  restarts = []
  monkeypatch.setattr(
    cli.malloc, 'restart_if_wanted', lambda: restarts.append(name)
  )
  monkeypatch.setattr(sys, 'argv', ['mmicl', name, '--help'])
  with pytest.raises(SystemExit):
    cli.main()
  others = ('score', 'merge', 'convert', 'data', 'compile', 'env')
  computes = name not in others
  assert restarts == [name] * computes


@pytest.mark.parametrize('argv', [['nonsense'], ['try', '--nonsense']])
def test_unknown_words_exit_with_2(command, capsys, argv):
  with pytest.raises(SystemExit) as exit:
    cli.main(argv)
  assert exit.value.code == 2
  assert 'nonsense' in capsys.readouterr().err


def examples(text):
  """Command lines of a help text; a line that ends in \\ goes on."""
  lines = text.replace('\\\n', ' ').splitlines()
  lines = [line.strip().removeprefix('example: ') for line in lines]
  return [line for line in lines if line.startswith('mmicl ')]


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_every_help_has_an_example_that_parses(name, capsys):
  with pytest.raises(SystemExit) as exit:
    cli.main([name, '--help'])
  assert exit.value.code == 0
  lines = examples(capsys.readouterr().out)
  found = [line for line in lines if line.split()[1] == name]
  assert found, f'mmicl {name} --help shows no example'
  for line in found:
    args = cli.parse(shlex.split(line, comments=True)[1:])
    assert args.command == name
