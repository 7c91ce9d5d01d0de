"""Every command that writes a file or folder leaves other people's alone."""

import os
import tempfile
from pathlib import Path

import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.data.feature_store import write_index
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import lock
from mmicl_jax.runtime.files import new_directory, write_text
from mmicl_jax.runtime.outputs import check_output

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


def as_nobody(call):
  """What a call says to a user who may not write; root may everywhere."""
  read, write = os.pipe()
  child = os.fork()
  if not child:
    said = 'it was done'
    try:
      if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
      call()
    except UserError as error:
      said = str(error)
    except BaseException as error:
      said = f'a fault: {error!r}'
    finally:
      os.write(write, said.encode())
      os._exit(0)
  os.close(write)
  with open(read) as file:
    said = file.read()
  os.waitpid(child, 0)
  return said


@pytest.mark.filterwarnings('ignore:.*fork')
def test_a_folder_that_may_not_be_written_is_named_and_kept():
  """By all that writes: runs, answers, conversions, features, pages."""
  with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / 'shared'
    (folder / 'full').mkdir(parents=True)
    for path in (place, folder, folder / 'full'):
      os.chmod(path, 0o555)

    def convert():
      with new_directory(folder / 'out'):
        pass

    calls = {
      'run': lambda: Checkpointer(folder / 'full'),
      'new run': lambda: Checkpointer(folder / 'run'),
      'answers': lambda: check_output(folder / 'answers.jsonl'),
      'conversion': convert,
      'features': lambda: write_index(folder / 'features', {}),
      'page': lambda: write_text(folder / 'page.html', ''),
    }
    for name, call in calls.items():
      said = as_nobody(call)
      assert str(folder) in said, (name, said)
      assert 'ermission' in said or 'not writable' in said, (name, said)
    assert [path.name for path in folder.rglob('*')] == ['full']
    for path in (place, folder, folder / 'full'):
      os.chmod(path, 0o755)
