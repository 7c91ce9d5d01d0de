"""`mmicl data check | stats | show` on what `mmicl data build` wrote."""

import csv
import json

import pytest
from PIL import Image

from mmicl_jax.__main__ import main


@pytest.fixture
def raw(tmp_path):
  """A table of four questions about four pictures."""
  folder = tmp_path / 'raw'
  folder.mkdir()
  with open(folder / 'q.csv', 'w', newline='') as file:
    rows = csv.writer(file)
    rows.writerow(('picture', 'question', 'answer'))
    for i in range(4):
      Image.new('RGB', (9, 7 + i), (60 * i, 9, 9)).save(folder / f'{i}.png')
      rows.writerow((f'{i}.png', f'How tall is it, {i}?', f'{7 + i} pixels'))
  return folder


def run(capsys, *argv):
  code = main(['data', *map(str, argv)])
  return code, *capsys.readouterr()


def build(capsys, raw, out, *more):
  table = ('--raw', raw / 'q.csv', '--image_columns', 'picture')
  names = ('--question_column', 'question', '--answer_column', 'answer')
  found = run(
    capsys, 'build', '--dataset', 'csv', *table, *names, '--out', out, *more,
    '--workers', 1,
  )  # fmt: skip
  assert found[0] == 0, found
  return out


def lines(out):
  text = (out / 'train.jsonl').read_text('utf-8')
  return [json.loads(line) for line in text.splitlines()]


def change(out, edit):
  """Edits the records of a folder, and makes its manifest agree."""
  import hashlib

  records = lines(out)
  edit(records)
  text = ''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in records)
  (out / 'train.jsonl').write_text(text, 'utf-8')
  manifest = json.loads((out / 'manifest.json').read_text('utf-8'))
  digest = hashlib.sha256(text.encode()).hexdigest()
  manifest['splits']['train']['files']['train.jsonl'] = digest
  (out / 'manifest.json').write_text(json.dumps(manifest), 'utf-8')


@pytest.mark.parametrize('form', ['jsonl', 'array_record'])
def test_a_built_folder_is_sound(raw, tmp_path, capsys, form):
  if form == 'array_record':
    pytest.importorskip('array_record')
  out = build(capsys, raw, tmp_path / 'out', '--format', form)
  code, said, _ = run(capsys, 'check', out, '--json')
  value = json.loads(said)
  assert (code, value['records'], value['problems']) == (0, 4, [])
  assert value['pictures'] == 4
  code, said, _ = run(capsys, 'stats', out, '--json')
  value = json.loads(said)
  assert (code, value['records']) == (0, 4)
  assert value['answers']['different'] == 4
  page = tmp_path / 'page.html'
  assert run(capsys, 'show', out, '--out', page)[0] == 0
  assert page.read_text('utf-8').count('<img') == value['images']
  if form == 'array_record':
    shard = out / 'train-00000-of-00001.array_record'
    for name in (shard, out / 'train', out / 'train-*.array_record'):
      assert json.loads(run(capsys, 'check', name, '--json')[1])['records'] == 4


def twice(records):
  records.append(records[0])


def renamed_copy(records):
  records.append({k: v for k, v in records[0].items() if k != 'id'})


def its_own_shot(records):
  records[1]['meta']['shots'] = [records[1]['id']]


def shared_picture(records):
  shown = next(r for r in records if len(r['input_image']) > 1)
  shown['input_image'][-1] = shown['input_image'][0]


def leak(records):
  records[2]['input_text'] += '\n' + records[2]['output_text']


def misnamed(records):
  records[3]['input_text'] = records[3]['input_text'].replace(
    'image0', 'image5'
  )


@pytest.mark.parametrize(
  'edit, words',
  [
    (twice, 'ids are unique'),
    (renamed_copy, 'equals that of train.jsonl:1'),
    (its_own_shot, 'is the query itself'),
    (shared_picture, 'are the same picture'),
    (leak, 'ends with its own answer'),
    (misnamed, 'image5'),
  ],
)
def test_faults_are_found(raw, tmp_path, capsys, edit, words):
  out = build(capsys, raw, tmp_path / 'out')
  change(out, edit)
  code, said, _ = run(capsys, 'check', out)
  assert code == 2 and words in said
  assert said.splitlines()[-1].endswith(', 1 with problems.')


def test_damage_is_found(raw, tmp_path, capsys):
  """A picture that is cut off or gone, and a changed or lost record file."""
  out = build(capsys, raw, tmp_path / 'out')
  first, second, *_ = sorted((out / 'images').iterdir())
  data = first.read_bytes()
  first.write_bytes(data[: len(data) // 2])
  code, said, _ = run(capsys, 'check', out)
  assert code == 2 and first.name in said
  first.write_bytes(data)
  second.unlink()
  code, said, _ = run(capsys, 'check', out)
  assert code == 2 and second.name in said and first.name not in said
  with open(out / 'train.jsonl', 'a') as file:
    file.write('\n')
  assert 'not the file that was built' in run(capsys, 'check', out)[1]
  (out / 'train.jsonl').unlink()
  code, _, said = run(capsys, 'check', out)
  assert code == 2 and 'train.jsonl' in said and said.count('\n') == 1


def test_an_answer_that_the_annotation_says_is_a_warning(raw, tmp_path, capsys):
  table = (raw / 'q.csv').read_text().replace('How tall is it, 0', '7 pixels')
  (raw / 'q.csv').write_text(table)
  out = build(capsys, raw, tmp_path / 'out', '--shots', 0)
  code, said, _ = run(capsys, 'check', out)
  assert code == 0 and '1 records: answer in the prompt; the question' in said


@pytest.mark.parametrize('style', ['plain', 'chat'])
def test_demonstrations_of_the_same_answer_are_no_warning(
  raw, tmp_path, capsys, style
):
  text = (raw / 'q.csv').read_text()
  for i in range(4):
    text = text.replace(f'{7 + i} pixels', 'yes')
  (raw / 'q.csv').write_text(text)
  out = build(capsys, raw, tmp_path / 'out', '--style', style)
  assert any(' yes' in line['input_text'] for line in lines(out))
  code, said, _ = run(capsys, 'check', out)
  assert (code, said) == (0, '4 records, 0 with problems.\n')


def test_shared_pictures_are_counted(raw, tmp_path, capsys):
  out = build(capsys, raw, tmp_path / 'out')
  rows = (raw / 'q.csv').read_text().splitlines()
  (raw / 'q.csv').write_text('\n'.join(rows[:3]) + '\n')
  Image.new('RGB', (5, 5)).save(raw / '1.png')
  other = build(capsys, raw, tmp_path / 'other')
  code, said, _ = run(capsys, 'check', out, '--against', other, '--json')
  assert code == 0 and json.loads(said)['against'] == {str(other): 1}
  code, said, _ = run(capsys, 'check', out, '--against', other)
  assert f'1 of 4 pictures are also among the 2 of {other}' in said


def test_errors_name_what_to_do(raw, tmp_path, capsys):
  (tmp_path / 'empty').mkdir()
  for argv, words in [
    (('check', tmp_path / 'empty'), 'no manifest.json'),
    (('stats', raw / 'q.csv', '--lengths', '5'), '--vocabulary'),
  ]:
    code, _, said = run(capsys, *argv)
    assert code == 2 and words in said and said.count('\n') == 1
