import base64
import bisect
import html.parser
import io
import json
import re

import pytest
from PIL import Image

from mmicl_jax.__main__ import main
from mmicl_jax.data import records
from mmicl_jax.data.records import Record
from mmicl_jax.tokenizer import train_sentencepiece


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'images').mkdir()
  for name, colour in (('a', 'red'), ('b', 'blue')):
    Image.new('RGB', (8, 6), colour).save(tmp_path / 'images' / f'{name}.png')
  return tmp_path


def good(count=3):
  return [
    Record(
      f'image 0 is <image0>图.\nimage 1 is <image1>图. Same colour, {i}?',
      ['images/a.png', './images/b.png'],
      'no',
      id=i,
      dataset='colours',
    )
    for i in range(count)
  ]


def run(capsys, *argv):
  code = main(['data', *map(str, argv)])
  return code, *capsys.readouterr()


def test_check_of_a_sound_file(folder, capsys):
  path = folder / 'x.jsonl'
  records.write_records(path, good())
  assert run(capsys, 'check', path, '--images') == (
    0,
    '3 records, 0 with problems.\n',
    '',
  )


def test_check_names_every_line(folder, capsys):
  path = folder / 'x.jsonl'
  bad = Record('<image0>图 or image 4?', ['images/none.png'], '')
  records.write_records(path, [*good(1), bad])
  with open(path, 'a') as file:
    file.write('\n{"input_text": 3\n' + good(2)[1].to_json())
    file.write('\n{"input_text": "", "output_text": ""}\n')
  code, out, _ = run(capsys, 'check', path)
  assert code == 2
  lines = out.splitlines()
  for line, words in [
    (2, "'image 4' is mentioned"),
    (2, 'The answer is empty'),
    (2, 'none.png could not be read'),
    (4, 'not JSON'),
    (6, 'no "input_image"'),
  ]:
    assert any(x.startswith(f'{path}:{line}: ') and words in x for x in lines)
  assert lines[-1] == '5 records, 3 with problems.' and len(lines) == 6

  code, out, _ = run(capsys, 'check', path, '--json')
  value = json.loads(out)
  assert (code, value['records'], value['bad_records']) == (2, 5, 3)
  assert [p['line'] for p in value['problems']] == [2, 2, 2, 4, 6]


def test_check_opens_images_when_asked(folder, capsys):
  path = folder / 'x.jsonl'
  data = (folder / 'images' / 'a.png').read_bytes()
  (folder / 'images' / 'b.png').write_bytes(data[:50])
  records.write_records(path, good(1))
  assert run(capsys, 'check', path)[0] == 0
  code, out, _ = run(capsys, 'check', path, '--images')
  assert code == 2 and f'{path}:1: ' in out and 'b.png' in out
  other = folder / 'images'
  code, out, _ = run(capsys, 'check', path, '--data_dir', other)
  assert code == 2 and 'images/images/a.png could not be read' in out
  # Base64 has no file to look for.
  records.write_records(path, [Record('<image0>图?', [data], 'x')])
  assert run(capsys, 'check', path)[0] == 0


def test_a_flood_of_problems_is_cut(folder, capsys):
  path = folder / 'x.jsonl'
  records.write_records(
    path, (Record(f'What {i}?', [], '') for i in range(150))
  )
  _, out, _ = run(capsys, 'check', path)
  assert len(out.splitlines()) == 102
  assert '... and 50 more problems' in out


def test_stats(folder, capsys):
  path = folder / 'x.jsonl'
  text = Record('one two three', [], 'a b c d', dataset='text')
  records.write_records(path, [*good(3), text])
  code, out, _ = run(capsys, 'stats', path, '--json')
  value = json.loads(out)
  assert code == 0
  assert (value['records'], value['images']) == (4, 6)
  assert value['datasets'] == {'colours': 3, 'text': 1}
  assert value['images_per_record'] == {'0': 1, '2': 3}
  words = value['percentiles']['output words']
  assert words == {'0': 1, '50': 1, '90': 4, '99': 4, '100': 4}
  code, out, _ = run(capsys, 'stats', path)
  assert code == 0
  assert '4 records, 6 images' in out and '█' * 30 in out and 'colours' in out


class Page(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.tags, self.pictures, self.text = [], [], ''
    self.paragraphs = self.figures_in_paragraphs = 0

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.paragraphs += tag == 'p'
    self.figures_in_paragraphs += tag == 'figure' and self.paragraphs > 0
    if tag == 'img':
      self.pictures.append(dict(attrs)['src'])

  def handle_endtag(self, tag):
    self.paragraphs -= tag == 'p'

  def handle_data(self, data):
    self.text += data


def test_show_is_escaped_and_holds_its_images(folder, capsys):
  path, out = folder / 'x.jsonl', folder / 'sub' / 'page.html'
  script = '<script>alert(1)</script>'
  strange = Record(
    f'{script} <image0>' + '图' * 32 + ' & <image1>' + '图' * 32,
    ['images/a.png', f'images/{script}.png'],
    script,
    dataset=script,
  )
  records.write_records(path, [*good(1), strange])
  with open(path, 'a') as file:
    file.write('{"<b>\n')
  assert run(capsys, 'show', path, '--out', out) == (0, f'{out}\n', '')
  page = Page()
  page.feed(out.read_text('utf-8'))
  # A figure would end a paragraph.
  assert 'figure' in page.tags and page.figures_in_paragraphs == 0
  assert 'script' not in page.tags and 'b' not in page.tags
  # Text, missing image, answer, dataset, and the choice of datasets.
  assert page.text.count(script) == 5
  assert page.text.count('图') == 0
  assert 'line 3' in page.text and 'not JSON' in page.text
  assert len(page.pictures) == 3
  head, _, body = page.pictures[1].partition(',')
  assert head == 'data:image/jpeg;base64'
  picture = Image.open(io.BytesIO(base64.b64decode(body)))
  red, _, blue = picture.convert('RGB').getpixel((100, 100))
  assert picture.size == (224, 224) and blue > 200 > 60 > red


def shown(folder, capsys, count, limit):
  """The lines that the page shows."""
  path, out = folder / 'x.jsonl', folder / 'page.html'
  records.write_records(path, good(count))
  run(capsys, 'show', path, '--out', out, '--limit', limit)
  text = out.read_text('utf-8')
  assert f'{min(count, limit)} of {count} records' in text
  return [int(n) for n in re.findall(r'line (\d+) ·', text)]


def test_show_spreads_over_the_file(folder, capsys):
  lines = shown(folder, capsys, 80, 20)
  assert lines == shown(folder, capsys, 80, 20)
  # One of each stretch of four.
  ends = range(0, 81, 4)
  assert [bisect.bisect(ends, n - 1) for n in lines] == list(range(1, 21))
  # Rows that go round through four classes are all shown.
  assert {n % 4 for n in lines} == {0, 1, 2, 3}


def test_show_of_a_short_file_shows_all(folder, capsys):
  assert shown(folder, capsys, 5, 20) == [1, 2, 3, 4, 5]


def test_show_replaces_pages_alone(folder, capsys):
  """Neither the records, by whatever name, nor a file of another kind."""
  path, link, other = (folder / n for n in ('x.jsonl', 'link', 'notes.txt'))
  records.write_records(path, good(2))
  link.symlink_to(path)
  other.write_text('precious')
  before = path.read_bytes()
  for out in (path, link, other):
    code, _, said = run(capsys, 'show', path, '--out', out)
    assert code == 2 and said.count('\n') == 1, said
  assert path.read_bytes() == before and other.read_text() == 'precious'
  for _ in range(2):  # its own page is replaced
    assert run(capsys, 'show', path, '--out', folder / 'page.html')[0] == 0


def test_errors_are_one_sentence(folder, capsys):
  (folder / 'empty.jsonl').write_text('\n')
  bad = folder / 'bad.jsonl'
  bad.write_text('[]\n')
  for argv, words in [
    (('check', folder / 'empty.jsonl'), 'no records in it'),
    (('stats', folder / 'empty.jsonl'), 'no records in it'),
    (('check', folder / 'none.jsonl'), 'No such file'),
    (('stats', bad), 'bad.jsonl:1: a JSON list'),
    (('show', bad, '--out', folder / 'p', '--limit', 0), '--limit 0'),
    (('show', bad, '--out', bad / 'p'), 'bad.jsonl'),
  ]:
    code, _, err = run(capsys, *argv)
    assert code == 2 and err.startswith('mmicl: ') and err.count('\n') == 1
    assert words in err, err


@pytest.mark.parametrize('argv', [(), ('check',), ('stats',), ('show',)])
def test_help_has_an_example(argv, capsys):
  with pytest.raises(SystemExit) as stop:
    main(['data', *argv, '--help'])
  assert stop.value.code == 0
  assert 'example: mmicl data' in capsys.readouterr().out


def test_stats_of_buckets(folder, capsys):
  path, words = folder / 'x.jsonl', folder / 'words.model'
  train_sentencepiece(['one two three image 0 is . a b'] * 5, words, 30)
  texts = [
    Record('one two ' * (1 + 7 * (i % 2)), [], 'a b', dataset='text')
    for i in range(8)
  ]
  records.write_records(path, texts)
  given = ('stats', path, '--vocabulary', words)

  def waste(*more):
    code, out, _ = run(capsys, *given, '--rows', '2', '--json', *more)
    assert code == 0
    return json.loads(out)['batches']

  one = waste('--buckets', '((120, 12, 3),)')
  two = waste('--buckets', '((20, 12, 3), (120, 12, 3))')
  packed = waste('--pack', '--lengths', '120,40')
  assert one['inputs'] > two['inputs'] and one['inputs'] > packed['inputs']
  assert packed['examples_per_row'] > 1 == one['examples_per_row']
  code, out, _ = run(capsys, *given, '--pack', '--lengths', '120,40')
  assert code == 0 and 'packed rows' in out
  for more, message in (
    (('stats', path, '--pack'), 'give --vocabulary'),
    ((*given, '--pack'), '--pack alone needs --lengths'),
    ((*given, '--buckets', '((20,'), 'give them as BUCKETS'),
    ((*given, '--buckets', '((20,),)'), 'give them as BUCKETS'),
    ((*given, '--pack', '--lengths', '120,40', '--rows', '0'), 'at least 1'),
  ):
    code, _, err = run(capsys, *more)
    assert code == 2 and message in err
