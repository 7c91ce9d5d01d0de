"""Every command that writes a file or folder leaves other people's alone."""

import os

import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.runtime import lock

# Nothing that they read exists: the output is looked at before all else.
COMMANDS = {
  'data show': ['data', 'show', 'records.jsonl', '--out'],
  'compile': ['compile', '--table'],
  'convert check': ['convert', 'check', '--source', 'hf', '--html'],
  'demo': ['demo', '--out'],
}


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('content', [b'thesis', b'{"a": 1}', b'\x89PNG\r\n'])
def test_a_file_of_another_kind_is_refused_and_kept(
  tmp_path, monkeypatch, capsys, command, content
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'theirs').write_bytes(content)
  assert main([*COMMANDS[command], 'theirs']) == 2
  message = capsys.readouterr().err
  assert message.startswith('mmicl: theirs ') and message.count('\n') == 1
  assert (tmp_path / 'theirs').read_bytes() == content
  assert os.listdir(tmp_path) == ['theirs']


def test_a_second_demo_in_a_folder_is_told(tmp_path, capsys):
  with lock.only_writer(tmp_path / 'demo'):
    assert main(['demo', '--out', str(tmp_path / 'demo')]) == 2
  assert 'is being written by another process' in capsys.readouterr().err
