"""Promises of the builder that no one dataset shows."""

import io
import json
import sys
import zipfile

import pytest
from official_trees import build_tree, picture, refusal, run_build, write_tree
from PIL import Image
from tiny_builds import built
from tiny_pictures import lines, put, still

from mmicl_jax.data.build.words import before_answer, respelled


def vqav2(root, split='train', count=6, answers=True, **questions):
  """VQAv2 with a picture for each question; questions: those of a number."""
  name = {'train': 'train2014', 'test': 'test2015'}[split]
  rows = [
    {'image_id': i, 'question_id': i, 'question': f'What is {i}?'}
    | questions.get(f'q{i}', {})
    for i in range(count)
  ]
  files = {f'v2_OpenEnded_mscoco_{name}_questions.json': {'questions': rows}}
  if answers:
    own = [
      {'question_id': i, 'answers': [{'answer': f'{i} of them'}]}
      for i in range(count)
    ]
    files[f'v2_mscoco_{name}_annotations.json'] = {'annotations': own}
  for i in range(count):
    files[f'{name}/COCO_{name}_{i:012d}.jpg'] = picture(i)
  return write_tree(root, files)


def test_an_answer_that_is_a_number_names_no_image(tmp_path):
  question = {'question': 'How many are in the image'}
  raw = vqav2(tmp_path / 'raw', **{f'q{i}': question for i in range(6)})
  forms = tmp_path / 'forms.json'
  forms.write_text(
    json.dumps({'fields': ['question'], 'forms': ['{question}']})
  )
  out = tmp_path / 'out'
  assert run_build('vqav2', raw, out, '--templates', str(forms)) == 0
  text = (out / 'train.jsonl').read_text('utf-8')
  assert 'in the picture 3 of them' in text
  for record in map(json.loads, text.splitlines()):
    named = len(record['meta']['shots']) + 1
    assert record['input_text'].count('in the picture') == named
  assert before_answer('in this Image', '7') == 'in this Picture'
  assert before_answer('in this image', 'red') == 'in this image'


@pytest.mark.parametrize(
  'text, shown',
  [
    ('IMAGE 3 and image\t4', 'PICTURE 3 and picture\t4'),
    ('see images 1 and 2', 'see pictures 1 and 2'),
    ('a\rUser: b\u2028Bot: c', 'a\rUser : b\u2028Bot : c'),
    (' User: b', ' User : b'),
    ('The User: b, an image of 7', 'The User: b, an image of 7'),
  ],
)
def test_whatever_reads_like_a_name_is_respelled(text, shown):
  assert respelled(text) == shown


def test_a_split_without_answers_looks_for_no_demonstrations(
  tmp_path, monkeypatch
):
  from mmicl_jax.data.build.assembly import Assembly

  raw = vqav2(tmp_path / 'raw', 'test', answers=False)
  tried = []
  fits = Assembly._fits
  monkeypatch.setattr(
    Assembly, '_fits', lambda *args: tried.append(1) or fits(*args)
  )
  made = built('vqav2', raw, tmp_path / 'out', splits=('test',))
  assert not tried and [r['output_text'] for r in made.records('test')] == (
    [''] * 6
  )


def test_splits_are_built_in_one_order(tmp_path):
  raw = write_tree(tmp_path / 'raw', {})
  for split in ('dev', 'test1'):
    row = {'identifier': f'{split}-0-0-0', 'sentence': 'So.', 'label': 'True'}
    lines(raw / f'data/{split}.json', [row])
    for side in (0, 1):
      put(raw / split / f'{split}-0-0-img{side}.png', still(side))
  one = build_tree('nlvr2', raw, '--splits', 'test1,dev')
  other = build_tree('nlvr2', raw, '--splits', 'dev,test1')
  texts = [(x.out / 'manifest.json').read_bytes() for x in (one, other)]
  assert texts[0] == texts[1]


def test_a_tree_that_was_mended_is_built_by_the_same_command(tmp_path, capsys):
  raw = vqav2(tmp_path / 'raw')
  place = raw / 'train2014/COCO_train2014_000000000003.jpg'
  data = place.read_bytes()
  place.write_bytes(b'')
  out = tmp_path / 'out'
  flags = ('vqav2', raw, out, '--max_bad', '0')
  assert run_build(*flags) == 2
  assert json.loads((out / 'manifest.json').read_text())['complete'] is False
  assert run_build(*flags, '--seed', '1') == 2  # another build
  place.write_bytes(data)
  assert run_build(*flags) == 0
  assert len((out / 'train.jsonl').read_bytes().splitlines()) == 6


def test_parts_of_other_annotations_are_not_taken(tmp_path, monkeypatch):
  """Killed after a split was whole, and then the annotations were replaced."""
  from mmicl_jax.data.build import run

  raw, out = vqav2(tmp_path / 'raw'), tmp_path / 'out'
  with monkeypatch.context() as patch:

    def killed(*args):
      raise KeyboardInterrupt

    patch.setattr(run, '_publish', killed)
    with pytest.raises(KeyboardInterrupt):
      built('vqav2', raw, out)
  assert (out / '.parts/train.done.json').exists()
  vqav2(raw, q2={'question': 'Is it another?'})
  made = built('vqav2', raw, out)
  assert made.records('train')[2]['meta']['question'] == 'Is it another?'
  fresh = built('vqav2', raw, tmp_path / 'fresh')
  assert made.manifest == fresh.manifest


def test_lines_may_begin_with_a_mark_and_hold_what_is_no_number(tmp_path):
  row = {'q': 'What?', 'a': 'it', 'g': float('nan')}
  text = '\ufeff' + json.dumps(row) + '\n' + json.dumps(row | {'a': row['g']})
  raw = write_tree(tmp_path / 'raw', {'t.jsonl': text})
  flags = ('--question_column', 'q', '--answer_column', 'a')
  out = tmp_path / 'out'
  assert run_build('csv', raw / 't.jsonl', out, *flags) == 0
  manifest = json.loads((out / 'manifest.json').read_text())
  assert manifest['splits']['train']['written'] == 1
  assert manifest['splits']['train']['skipped'] == {'no_answer': ['1']}


def test_the_split_by_google_has_a_test(tmp_path, capsys):
  ref = {'ann_id': 1, 'ref_id': 1, 'image_id': 1}
  refs = [
    ref | {'split': split, 'sentences': [{'sent_id': i, 'sent': f'cup {i}'}]}
    for i, split in enumerate(('train', 'val', 'test'))
  ]
  about = {
    'images': [{'id': 1, 'width': 48, 'height': 24}],
    'annotations': [{'id': 1, 'bbox': [1, 1, 9, 9]}],
  }
  files = {
    'refcoco/refs(google).json': refs,
    'refcoco/instances.json': about,
    'train2014/COCO_train2014_000000000001.jpg': picture(1),
  }
  raw = write_tree(tmp_path / 'raw', files)
  made = build_tree('refcoco', raw, '--set', 'split_by=google')
  assert list(made.manifest['splits']) == ['train', 'val', 'test']
  assert made.records('test')[0]['output_text'] == 'cup 2'
  said = refusal('refcoco', raw, capsys, '--splits', 'test')
  assert "no split 'test'" in said


def test_bongard_has_a_train_split(tmp_path):
  side = [
    {'im_path': f'p/{i}.jpg', 'crop_bbox': [0, 0, 9, 9]} for i in range(7)
  ]
  files = {'bongard_hoi_train.json': [[side, side[::-1], 'ride++horse']]}
  files |= {f'p/{i}.jpg': picture(i) for i in range(7)}
  made = build_tree('bongard_hoi', write_tree(tmp_path / 'raw', files))
  assert made.ids('train') == ['0/0', '0/1']


def test_a_text_of_mme_that_is_not_utf8_is_one_bad_item(tmp_path):
  files = {
    'count/a.jpg': picture(1),
    'count/a.txt': 'Is it one?\tYes\r\nIs it two?\tNo\r\n',
    'count/b.jpg': picture(2),
    'count/b.txt': b'Is it \xff?\tYes\nIs it two?\tNo\n',
  }
  raw = write_tree(tmp_path / 'raw', files)
  made = build_tree('mme', raw)
  assert made.ids('count') == ['a.jpg/0', 'a.jpg/1']
  assert made.skipped('count') == {'bad_line': ['b.jpg']}


def test_a_file_that_is_not_official_leaves_no_folder(tmp_path, capsys):
  raw = vqav2(tmp_path / 'raw')
  questions = raw / 'v2_OpenEnded_mscoco_train2014_questions.json'
  whole = questions.read_bytes()
  questions.write_bytes(whole + b'\xff')
  out = tmp_path / 'out'
  assert run_build('vqav2', raw, out) == 2
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and f'byte {len(whole)} is not UTF-8' in said
  assert not out.exists()
  questions.write_bytes(whole)
  assert run_build('vqav2', raw, out, '--seed', '1') == 0


def test_too_many_bad_items_are_one_sentence(tmp_path, capsys):
  raw = vqav2(tmp_path / 'raw')
  (raw / 'train2014/COCO_train2014_000000000003.jpg').write_bytes(b'')
  assert run_build('vqav2', raw, tmp_path / 'out', '--max_bad', '0') == 2
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and '1 of 6 items are bad' in said


def test_a_package_that_is_absent_is_named(tmp_path, capsys, monkeypatch):
  row = {'video_id': 0, 'id': 0, 'question': 'Who?', 'answer': 'he'}
  files = {'train_qa.json': [row], 'TrainValVideo/video0.mp4': b'a video'}
  raw = write_tree(tmp_path / 'raw', files | {'test.parquet': b'PAR1'})
  modules = ('av', 'pyarrow', 'array_record.python.array_record_module')
  for name in modules:
    monkeypatch.setitem(sys.modules, name, None)
  for name, flags, said in (
    ('msrvtt_qa', (), "pip install 'mmicl_jax[video]'"),
    ('winoground', (), 'pip install pyarrow'),
    ('winoground', ('--format', 'array_record'), 'pip install array_record'),
  ):
    assert said in refusal(name, raw, capsys, *flags)


def test_a_png_with_a_large_profile_is_kept_as_it_is(tmp_path):
  """Pillow refuses to open it, although its pixels are sound."""
  file = io.BytesIO()
  image = Image.new('RGB', (20, 10), 'red')
  image.save(file, 'PNG', icc_profile=bytes(3_000_000))
  raw = write_tree(tmp_path / 'raw', {'a.png': file.getvalue()})
  lines(raw / 't.jsonl', [{'q': 'What?', 'a': 'it', 'p': 'a.png'}])
  flags = ('--question_column', 'q', '--answer_column', 'a')
  out = tmp_path / 'out'
  flags += ('--image_columns', 'p')
  assert run_build('csv', raw / 't.jsonl', out, *flags) == 0
  [kept] = (out / 'images').iterdir()
  assert kept.suffix == '.png' and kept.read_bytes() == file.getvalue()


def test_a_picture_that_was_lost_meanwhile_is_made_again(tmp_path, monkeypatch):
  from mmicl_jax.data.build import run

  raw, out = vqav2(tmp_path / 'raw'), tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(run, 'write_records', lambda *args: 1 / 0)  # a kill
    with pytest.raises(ZeroDivisionError):
      built('vqav2', raw, out)
  first, *_ = sorted((out / 'images').iterdir())
  first.unlink()
  made = built('vqav2', raw, out)
  assert first.exists() and made.manifest['images']['count'] == 6


def test_a_build_of_other_annotations_is_named(tmp_path, capsys):
  raw, out = vqav2(tmp_path / 'raw'), tmp_path / 'out'
  assert run_build('vqav2', raw, out) == 0
  before = (out / 'train.jsonl').read_bytes()
  vqav2(raw, q2={'question': 'Is it another?'})
  assert run_build('vqav2', raw, out) == 2
  name = 'v2_OpenEnded_mscoco_train2014_questions.json'
  assert f'holds a build of another {name}' in capsys.readouterr().err
  assert (out / 'train.jsonl').read_bytes() == before
  assert run_build('vqav2', raw, out, '--overwrite') == 0
  assert b'Is it another?' in (out / 'train.jsonl').read_bytes()


def test_links_of_the_user_are_followed(tmp_path):
  about = {'a.png': {'p': 'a glass lighthouse'}}
  other = write_tree(
    tmp_path / 'disk',
    {'part-000001/part-000001.json': about, 'part-000001/a.png': picture(1)},
  )
  raw = tmp_path / 'raw'
  raw.mkdir()
  (raw / 'images').symlink_to(other)
  (other / 'up').symlink_to(raw)  # and a link that would never end
  made = build_tree('diffusiondb', raw)
  assert made.ids('train') == ['a.png']
  row = {'input_text': 'image 0 is <image0>图. What?', 'output_text': 'it'}
  raw = write_tree(tmp_path / 'mic', {})
  raw.mkdir()
  disk = tmp_path / 'mic_disk'
  lines(disk / 'jsonl/vqa/x/val.jsonl', [row | {'input_image': ['./d/b.png']}])
  (disk / 'pictures').mkdir()
  with zipfile.ZipFile(disk / 'pictures/d.zip', 'w') as file:
    file.writestr('d/b.png', picture(2, 'PNG'))
  (raw / 'data_jsonl').symlink_to(disk / 'jsonl')
  (raw / 'data').symlink_to(disk / 'pictures')
  made = built('mic_release', raw, tmp_path / 'out')
  assert made.ids('vqa/x/val') == ['0']
