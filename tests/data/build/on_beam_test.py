"""Apache Beam writes the same bytes as the processes of this machine."""

import base64
import importlib.util

import pytest
from official_trees import picture, run_build, video_file, write_tree
from tiny_pictures import FAULTS

from mmicl_jax.data.build.looking import Looks

OPTIONS = ('--engine', 'beam', '--', '--runner=DirectRunner')
HAS_BEAM = importlib.util.find_spec('apache_beam') is not None
with_beam = pytest.mark.skipif(
  not HAS_BEAM, reason="Apache Beam is not installed: pip install '.[beam]'"
)
# Beam's own modules warn of each other.
pytestmark = pytest.mark.filterwarnings('ignore')


def vcr(raw):
  """Frames and crops of them; one of the frames is no picture."""
  files = {'train.jsonl': []}
  for i in range(70):  # more than one part
    row = {
      'objects': ['person', 'dog'],
      'img_fn': f'film/{i}.jpg',
      'metadata_fn': f'film/{i}.json',
      'question': ['Who', 'is', [i % 2], '?'],
      'answer_choices': [['He', '.'], [[0, 1], '.']],
      'answer_label': i % 2,
      'annot_id': f'train-{i}',
    }
    files['train.jsonl'].append(row)
    data = FAULTS['not_an_image'] if i == 5 else picture(i)
    files[f'vcr1images/film/{i}.jpg'] = data
    boxes = [[1, 2, 30 + i / 9, 20.5, 0.9], [5, 5, 15, 19, 0.8]]
    files[f'vcr1images/film/{i}.json'] = {'boxes': boxes}
  return write_tree(raw, files)


def mmbench(raw):
  """Pictures inside of the table."""
  rows = ['index\tquestion\tA\tB\tanswer\timage']
  for i in range(3):
    data = base64.b64encode(picture(i)).decode()
    rows.append(f'{i}\tWhat?\tone\ttwo\tA\t{data}')
  return write_tree(raw, {'mmbench_dev.tsv': '\n'.join(rows) + '\n'})


def msrvtt_qa(raw):
  rows = [
    {
      'category_id': 1,
      'video_id': i,
      'id': i,
      'question': 'Who?',
      'answer': 'he',
    }
    for i in range(2)
  ]
  write_tree(raw, {'train_qa.json': rows})
  video_file(raw / 'TrainValVideo/video0.mp4')
  (raw / 'TrainValVideo/video1.mp4').write_bytes(b'no video')
  return raw


def content(out):
  return {
    str(path.relative_to(out)): path.read_bytes()
    for path in out.rglob('*')
    if path.is_file()
  }


@with_beam
@pytest.mark.parametrize('write', [vcr, mmbench, msrvtt_qa])
def test_beam_writes_the_same_bytes(tmp_path, monkeypatch, write):
  raw = write(tmp_path / 'raw')
  monkeypatch.chdir(tmp_path)  # workers run elsewhere: paths become absolute
  relative = raw.relative_to(tmp_path)
  names = Looks.names

  def found(self, item):  # what Beam left out would be looked at here
    assert all(picture.key in self._found for picture in item.pictures)
    return names(self, item)

  monkeypatch.setattr(Looks, 'names', found)
  assert run_build(write.__name__, relative, 'local', '--max_bad', '1') == 0
  flags = ('--max_bad', '1', *OPTIONS)
  assert run_build(write.__name__, relative, 'beam', *flags) == 0
  one, other = content(tmp_path / 'local'), content(tmp_path / 'beam')
  assert one.keys() == other.keys() and len(one) > 3
  assert one == other


@with_beam
def test_beam_does_only_what_is_left(tmp_path, monkeypatch):
  from mmicl_jax.data.build import run

  raw, out = vcr(tmp_path / 'raw'), tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(run, '_publish', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run_build('vcr', raw, out)
  for name in ('train.done.json', 'train.jsonl'):
    (out / '.parts' / name).unlink()
  assert run_build('vcr', raw, out, *OPTIONS) == 0
  assert run_build('vcr', raw, tmp_path / 'local') == 0
  assert content(out) == content(tmp_path / 'local')


@with_beam
def test_a_runner_that_beam_does_not_know(tmp_path, capsys):
  flags = ('--engine', 'beam', '--', '--runner=NoRunner')
  assert run_build('vcr', tmp_path, tmp_path / 'out', *flags) == 2
  said = capsys.readouterr().err
  assert 'Apache Beam does not take --runner=NoRunner' in said


@pytest.mark.skipif(HAS_BEAM, reason='Apache Beam is installed')
def test_without_beam_a_sentence_says_what_to_install(tmp_path, capsys):
  assert run_build('vcr', tmp_path, tmp_path / 'out', '--engine', 'beam') == 2
  assert "pip install 'mmicl_jax[beam]'" in capsys.readouterr().err


def test_options_of_beam_need_beam(tmp_path, capsys):
  flags = ('--', '--runner=DirectRunner')
  assert run_build('vcr', tmp_path, tmp_path / 'out', *flags) == 2
  assert '--runner=DirectRunner: options after --' in capsys.readouterr().err
