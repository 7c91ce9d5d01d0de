"""What an earlier commit wrote is read and continued by the code of today.

former/make.py made the files, by the commit 7426302. As someone who has such
files does, the tests use the command line and the package's public names; the
modules of the demo's results and page alone are named by where they are.
"""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import mmicl_jax
from mmicl_jax.__main__ import main
from mmicl_jax.demo.page import write_page
from mmicl_jax.demo.results import Results

FORMER = Path(__file__).parent / 'former'
EXPECTED = json.loads((FORMER / 'expected.json').read_text('utf-8'))
RUN = (
  *('--gin_file=runs/train.gin', '--gin_file=small.gin'),
  "--gin.small_model.model.dropout_bits='threefry'",  # as all masks were then
)
ANSWER = (
  *('generate', '--checkpoint', 'stage_1', '--input', 'train.jsonl'),
  *('--num_beams', '2', '--num_return_sequences', '2'),
  *('--max_new_tokens', '8'),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  """The former files, in the working directory of the test."""
  with tarfile.open(FORMER / 'files.tar.xz') as archive:
    archive.extraction_filter = lambda member, _: member
    archive.extractall(tmp_path)
  shutil.copyfile(FORMER / 'small.gin', tmp_path / 'small.gin')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(FORMER.parent)  # small.gin: former.small_model


def contents(folder):
  paths = [path for path in Path(folder).rglob('*') if path.is_file()]
  return {str(path): path.read_bytes() for path in paths}


def lines(path):
  return [json.loads(x) for x in Path(path).read_text('utf-8').splitlines()]


def losses(model_dir):
  """Step -> loss, from the summaries that TensorBoard shows."""
  reader = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  events = reader.EventAccumulator(model_dir).Reload()
  return {str(event.step): event.value for event in events.Scalars('loss')}


def scores(directory):
  """Of four colours as answers to the records; reads model.json and words."""
  queries = [
    mmicl_jax.Example(x['input_text'], '', tuple(x['input_image']))
    for x in lines('train.jsonl')
  ]
  colours = ['red', 'green', 'blue', 'white']
  return mmicl_jax.load(directory).score(queries, colours)


def same_answers(found, expected):
  """Whether lines of answers agree: all but scores to the letter."""
  for answer, other in zip(found, expected, strict=True):
    assert answer.keys() >= other.keys()
    assert answer['score'] == pytest.approx(other['score'], rel=1e-4, abs=1e-4)
    for name in ('line', 'id', 'text'):
      assert answer[name] == other[name]
    for one, another in zip(
      answer.get('others', ()), other.get('others', ()), strict=True
    ):
      assert one['text'] == another['text']
      assert one['score'] == pytest.approx(another['score'], rel=1e-4)


@pytest.mark.slow
def test_a_checkpoint_answers():
  expected = EXPECTED['train']['scores_at_4']
  np.testing.assert_allclose(scores('stage_1'), expected, 1e-4, 1e-4)


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint():
  before = contents('stage_1/checkpoint_4')
  arguments = ('train', '--gin_file=stages/pretrain.gin', *RUN)
  more = ("--gin.MODEL_DIR='stage_1'", '--gin.TRAIN_STEPS=8')
  assert main([*arguments, *more]) == 0
  # The dropout of a step, the place in the data, the moments of the optimizer:
  # each is in these losses. Steps 1 to 4 are not trained again.
  assert losses('stage_1') == pytest.approx(
    EXPECTED['train']['losses'], rel=1e-5
  )
  expected = EXPECTED['train']['scores']
  np.testing.assert_allclose(scores('stage_1'), expected, 1e-4, 1e-4)
  # KEEP is 3: the oldest counts, and the others stay as they are.
  kept = {path.name for path in Path('stage_1').glob('checkpoint_*')}
  assert kept == {f'checkpoint_{step}' for step in (4, 6, 8)}
  assert contents('stage_1/checkpoint_4') == before


@pytest.mark.slow
def test_cached_features_are_added_to_and_trained_with(capsys):
  before = contents('features')
  cache = ('data', 'cache-features', 'more.jsonl', '--checkpoint', 'stage_1')
  assert main([*cache, '--out', 'features', '--json']) == 0
  # One of the three images is in train.jsonl, too.
  printed = json.loads(capsys.readouterr().out)
  assert (printed['images'], printed['added']) == (3, 2)
  after = contents('features')
  assert before == {name: after[name] for name in before} != after
  arguments = ('train', '--gin_file=stages/tune.gin', *RUN)
  more = (
    "--gin.MODEL_DIR='stage_2'",
    '--gin.TRAIN_STEPS=4',
    "--gin.INIT_FROM='stage_1'",
    "--gin.FEATURE_CACHE='features'",
  )
  assert main([*arguments, *more]) == 0
  assert losses('stage_2') == pytest.approx(
    EXPECTED['features']['losses'], rel=1e-5
  )


@pytest.mark.slow
def test_a_file_of_answers_is_continued():
  # Each line carries a digest of the settings, the checkpoint's absolute path
  # among them, so that nobody continues another model's answers. The files
  # were made elsewhere: give the lines the digest that they would have here.
  settings = EXPECTED['answers']['settings']
  settings = settings | {'checkpoint': str(Path('stage_1').resolve())}
  text = json.dumps(settings, sort_keys=True, default=str)
  digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
  there = EXPECTED['answers']['lines'][0]['settings']
  path = Path('answers.jsonl')
  content = path.read_bytes().replace(there.encode(), digest.encode())
  path.write_bytes(content)
  # Three lines, and a fourth that was cut short.
  whole = content[: content.rindex(b'\n') + 1]
  assert whole.count(b'\n') == 3 and whole != content

  assert main([*ANSWER, '--output', 'answers.jsonl']) == 0
  assert path.read_bytes().startswith(whole)
  same_answers(lines(path), EXPECTED['answers']['lines'])
  assert {line['settings'] for line in lines(path)[:3]} == {digest}


@pytest.mark.slow
def test_visual_tokens_on_disk_give_the_same_answers():
  before = contents('visual_tokens')
  more = ('--output', 'new.jsonl', '--cache_dir', 'visual_tokens')
  assert main([*ANSWER, *more]) == 0
  same_answers(lines('new.jsonl'), EXPECTED['answers']['lines'])
  # Other code may keep tokens in another folder. It leaves these alone.
  after = contents('visual_tokens')
  assert before == {name: after[name] for name in before}


@pytest.mark.slow
def test_the_model_of_a_demo_answers(capsys):
  results = Results.load('demo/results.json')
  model = mmicl_jax.load('demo/stage_2')
  queries = [
    mmicl_jax.Example(x.prompt, '', tuple(f'demo/{y}' for y in x.images))
    for x in results.samples
  ]
  answers = [answer.text for answer in model.generate(queries)]
  assert answers == [sample.answer for sample in results.samples]
  # The command that the page shows: a prompt in quotes between options.
  before, prompt, after = results.ask_command.split("'")
  assert main([*before.split()[1:], prompt, *after.split()]) == 0
  assert capsys.readouterr().out.strip() == results.ask_answer
  asked = ('--input', 'demo/held_out/larger.jsonl', '--output', 'new.jsonl')
  assert main(['generate', '--checkpoint', 'demo/stage_2', *asked]) == 0
  same_answers(lines('new.jsonl'), EXPECTED['demo']['larger'])


def test_the_page_of_a_demo_is_written_from_its_results():
  results = Results.load('demo/results.json')
  page = Path(write_page(results, 'demo')).read_text('utf-8')
  assert results.ask_answer and results.ask_answer in page
  assert page.count('data:image/png') > len(results.samples)
