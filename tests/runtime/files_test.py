"""Files and folders are complete or absent, here and remote."""

import json
import os
import stat

import fsspec
import pytest
from fsspec.implementations import memory

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import files, remote


class Bucket(memory.MemoryFileSystem):
  """Amazon's storage for these tests, in memory; objects appear at close."""

  protocol = ('s3',)
  store = {}
  pseudo_dirs = ['']

  @classmethod
  def _strip_protocol(cls, path):
    return memory.MemoryFileSystem._strip_protocol(
      path.replace('s3://', 'memory://')
    )


@pytest.fixture
def bucket(monkeypatch):
  fsspec.register_implementation('s3', Bucket, clobber=True)
  monkeypatch.setattr(remote, 'PAUSES', (0, 0))
  monkeypatch.setattr(Bucket, 'store', {})
  monkeypatch.setattr(Bucket, 'pseudo_dirs', [''])
  remote._system.cache_clear()
  yield fsspec.filesystem('s3')
  remote._system.cache_clear()
  fsspec.register_implementation(
    's3', 's3fs.S3FileSystem', clobber=True, errtxt='Install s3fs'
  )


def names(folder):
  return sorted(os.listdir(folder))


def test_a_file_appears_when_it_is_whole(tmp_path):
  path = tmp_path / 'new' / 'a.txt'
  with files.writing(path) as file:
    file.write('图\n')
    assert not path.exists()
  assert path.read_bytes() == '图\n'.encode()
  assert names(path.parent) == ['a.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
  path = tmp_path / 'a.txt'
  files.write_text(path, 'old')
  with pytest.raises(error):
    with files.writing(path) as file:
      file.write('new')
      raise error
  assert path.read_text() == 'old' and names(tmp_path) == ['a.txt']


def test_permissions_are_the_umasks_or_those_of_before(tmp_path):
  path = tmp_path / 'a.txt'
  before = os.umask(0o027)
  try:
    files.write_text(path, 'one')
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    files.write_bytes(path, b'two')
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
  finally:
    os.umask(before)


def test_a_link_stays_a_link(tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'a').symlink_to('there/b')
  files.write_text(tmp_path / 'a', 'text')
  assert (tmp_path / 'a').is_symlink()
  assert (tmp_path / 'there' / 'b').read_text() == 'text'
  assert names(tmp_path / 'there') == ['b']


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
  path = tmp_path / 'pipe'
  os.mkfifo(path)
  reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  try:
    files.write_text(path, 'text')
    assert os.read(reader, 9) == b'text'
  finally:
    os.close(reader)
  assert stat.S_ISFIFO(path.stat().st_mode)


def test_what_cannot_be_written_is_named_with_a_remedy(tmp_path):
  (tmp_path / 'file').write_text('')
  for path in (tmp_path / 'file' / 'a', tmp_path):
    with pytest.raises(UserError) as found:
      files.write_text(path, 'text', remedy='choose another --out')
    text = str(found.value)
    assert text.startswith(f'{path} could not be written (')
    assert text.endswith('directory): choose another --out')
  assert names(tmp_path) == ['file']


def test_the_blocks_error_about_another_file_stays_its_own(tmp_path):
  with pytest.raises(FileNotFoundError, match='absent'):
    with files.writing(tmp_path / 'a'):
      open(tmp_path / 'absent')
  assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
  resource = pytest.importorskip('resource')
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  try:
    with pytest.raises(UserError, match='could not be written .*make room'):
      files.write_bytes(tmp_path / 'a', b'x' * 9000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert names(tmp_path) == []


def test_json_is_strict(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(path, {'name': '图'})
  assert path.read_text('utf-8').endswith('}\n')
  assert '图' in path.read_text('utf-8')
  with pytest.raises(TypeError):
    files.write_json(path, {'name': object()})
  with pytest.raises(ValueError, match='JSON'):
    files.write_json(path, {'loss': float('nan')})
  assert json.loads(path.read_text('utf-8')) == {'name': '图'}
  assert names(tmp_path) == ['a.json']


def test_a_copy_names_the_side_that_failed(tmp_path):
  (tmp_path / 'a').write_bytes(b'\r\n\0')
  files.copy_file(tmp_path / 'a', tmp_path / 'b')
  assert (tmp_path / 'b').read_bytes() == b'\r\n\0'
  with pytest.raises(UserError, match='absent could not be read'):
    files.copy_file(tmp_path / 'absent', tmp_path / 'c')
  with pytest.raises(UserError, match='b/c could not be written'):
    files.copy_file(tmp_path / 'a', tmp_path / 'b' / 'c')
  assert names(tmp_path) == ['a', 'b']


def test_a_folder_appears_when_it_is_whole(tmp_path):
  path = tmp_path / 'out'
  with pytest.raises(KeyboardInterrupt):
    with files.new_directory(path) as folder:
      (folder / 'a').write_text('a')
      raise KeyboardInterrupt
  assert names(tmp_path) == []
  path.mkdir()
  with files.new_directory(path) as folder:
    (folder / 'a').write_text('a')
    assert names(path) == []
  assert names(path) == ['a'] and names(tmp_path) == ['out']
  with pytest.raises(UserError, match='out exists and is not empty'):
    with files.new_directory(path):
      pass
  assert names(path) == ['a']
  with pytest.raises(UserError, match='a/b cannot be made .*name another'):
    with files.new_directory(path / 'a' / 'b'):
      pass


@pytest.mark.parametrize('kind', ['memory', 's3'])
def test_a_remote_file_appears_when_it_is_whole(bucket, kind):
  path = f'{kind}://bucket/folder/a.json'
  store = fsspec.filesystem(kind)
  with pytest.raises(KeyboardInterrupt):
    with files.writing(path) as file:
      file.write('half')
      raise KeyboardInterrupt
  assert not store.exists(path)
  with files.writing(path) as file:
    file.write('图')
    assert not store.exists(path)
  assert store.cat_file(path) == '图'.encode()
  files.write_bytes(path, b'\r\n')
  assert store.cat_file(path) == b'\r\n'
  store.rm(path)


def test_a_copy_goes_there_and_back(bucket, tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  files.copy_file(tmp_path / 'a', 's3://bucket/b')
  files.copy_file('s3://bucket/b', tmp_path / 'c')
  assert (tmp_path / 'c').read_bytes() == b'abc'


def test_what_a_store_refuses_is_one_sentence(bucket, monkeypatch):
  files.write_text('s3://bucket/a', 'old')
  closed = []

  class Broken(memory.MemoryFile):
    def write(self, data):
      raise RuntimeError('503 Slow Down\nand more')

    def discard(self):
      closed.append(self.path)

  monkeypatch.setattr(
    Bucket, '_open', lambda self, path, *_, **__: Broken(self, path)
  )
  with pytest.raises(UserError) as found:
    files.write_text('s3://bucket/a', 'text', remedy='try again')
  assert str(found.value) == (
    's3://bucket/a could not be written (503 Slow Down): try again'
  )
  assert closed == ['/bucket/a'] * (len(remote.PAUSES) + 1)


def test_a_remote_folder_is_sent_at_the_end(bucket, monkeypatch):
  with files.new_directory('s3://bucket/out') as folder:
    (folder / 'sub').mkdir()
    (folder / 'sub' / 'a').write_text('a')
    (folder / 'b').write_text('b')
    assert not bucket.exists('s3://bucket/out')
  assert sorted(bucket.find('s3://bucket/out')) == [
    '/bucket/out/b',
    '/bucket/out/sub/a',
  ]
  with pytest.raises(UserError, match='s3://bucket/out exists and is not emp'):
    with files.new_directory('s3://bucket/out'):
      pass

  def send(source, path, real=remote.send):
    if path.endswith('b'):
      raise ConnectionError('gone')
    real(source, path)

  monkeypatch.setattr(remote, 'send', send)
  with pytest.raises(UserError, match='s3://bucket/new/b could not be written'):
    with files.new_directory('s3://bucket/new') as folder:
      (folder / 'a').write_text('a')
      (folder / 'b').write_text('b')
  assert not bucket.exists('s3://bucket/new')


def test_a_missing_package_is_named(monkeypatch):
  def url_to_fs(path, real=fsspec.core.url_to_fs):
    if path.startswith('gs:'):
      raise ImportError('no')
    return real(path)

  monkeypatch.setattr(fsspec.core, 'url_to_fs', url_to_fs)
  for write in (
    lambda: files.write_text('gs://bucket/a', 'text'),
    lambda: files.new_directory('gs://bucket/a').__enter__(),
    lambda: files.copy_file('gs://bucket/a', 'memory://b'),
  ):
    with pytest.raises(UserError, match='^gs://bucket/a needs .*gcsfs$'):
      write()


def test_an_unknown_kind_of_address_is_refused():
  for write in (
    lambda: files.write_text('abc://bucket/a', 'text'),
    lambda: files.new_directory('abc://bucket/a').__enter__(),
  ):
    with pytest.raises(UserError, match='^abc://bucket/a.*gs://, s3://'):
      write()
