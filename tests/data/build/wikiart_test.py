"""WikiArt: three lists of three forms, joined by path."""

import unicodedata

import pytest
from official_trees import build_tree, picture, refusal, write_tree

PAINTED = 'Cubism/juan-gris_guitar.jpg'
MOJIBAKE = 'Impressionism/joaquã\xadn-sorolla_the-bath(1).jpg'
BROKEN = 'Realism/ã\x85sa_winter.jpg'  # holds what is no end of a line
ACCENT = 'Realism/edgar-degas_caf\u00e9.jpg'
KNOWN = 'Realism/édouard_x.jpg'
HEAD = '(Path to image),, (Groundtruth class) '


def spelled(form, path):
  return unicodedata.normalize(form, path)


@pytest.fixture
def wikiart(tmp_path):
  """Artist has a header, an empty line, two commas; the others CRLF, none."""
  artists = [HEAD, '', f'{MOJIBAKE},,1', f'{PAINTED},,0', '']
  genres = [f'{BROKEN},1', f'{PAINTED},0', f'{spelled("NFD", KNOWN)},1', '']
  styles = [f'{ACCENT},2', f'{PAINTED},0', f'{KNOWN},2', 'Realism/lost.jpg,2']
  return write_tree(
    tmp_path / 'raw',
    {
      'Artist/artist_train': '\n'.join(artists),
      'Artist/artist_class.txt': '0 Juan_Gris\n1 Joaquín_Sorolla\n',
      'Genre/genre_train.csv': '\r\n'.join(genres),
      'Genre/genre_class.txt': '0 still_life\r\n1 genre_painting\r\n',
      'Style/style_train.csv': '\r\n'.join([*styles, '']),
      'Style/style_val.csv': f'{PAINTED},0\r\n',
      'Style/style_class.txt': '0 Cubism\n1 Impressionism\n2 Realism\n',
      f'wikiart/{PAINTED}': picture(1),
      f'wikiart/{MOJIBAKE}': picture(2),
      f'wikiart/{BROKEN}': picture(3, mode='L'),
      f'wikiart/{spelled("NFD", ACCENT)}': picture(4),
      f'wikiart/{KNOWN}': picture(5),
    },
  )


def test_lists_are_joined_by_path(wikiart):
  built = build_tree('wikiart', wikiart, '--shots', '0')
  assert list(built.manifest['splits']) == ['train', 'val']
  # Paths as the first list spells them, in the order of the lists.
  known = spelled('NFD', KNOWN)
  assert built.ids('train') == [MOJIBAKE, PAINTED, BROKEN, known, ACCENT]
  shown = [built.shown(record) for record in built.records('train')]
  assert shown == [[2], [1], [3], [5], [4]]
  assert built.skipped('train') == {'missing_file': ['Realism/lost.jpg']}
  assert built.ids('val') == [PAINTED]
  assert len(built.manifest['raw']) == 7


def test_outputs_say_what_is_known_with_blanks(wikiart):
  built = build_tree('wikiart', wikiart, '--shots', '0')
  outputs = {
    source: record['output_text']
    for source, record in zip(
      built.ids('train'), built.records('train'), strict=True
    )
  }
  for words in ('still life', 'Juan Gris', 'Cubism'):
    assert words in outputs[PAINTED]
  assert 'Joaquín Sorolla' in outputs[MOJIBAKE]
  assert 'genre' not in outputs[MOJIBAKE] and 'style' not in outputs[MOJIBAKE]
  assert 'genre painting' in outputs[BROKEN]
  assert 'Realism' in outputs[ACCENT] and 'genre' not in outputs[ACCENT]
  known = outputs[spelled('NFD', KNOWN)]
  assert 'Realism' in known and 'genre painting' in known
  for source, output in outputs.items():
    record = built.one('train', source)
    assert '_' not in output and output in record['meta']['answers']
    assert not any(
      word in record['input_text']
      for word in ('Gris', 'Sorolla', 'Cubism', 'Realism', 'still life')
    )
  assert built.one('train', PAINTED)['meta']['artist'] == 'Juan Gris'


def test_one_list_with_mic_s_header_is_enough(tmp_path):
  """MIC resaved the lists with a header of its own."""
  raw = write_tree(
    tmp_path / 'raw',
    {
      'Style/style_val.csv': f'Images,Labels\n{PAINTED},0\n',
      'Style/style_class': '0 Cubism\n',
      f'WikiArt/{PAINTED}': picture(1),
    },
  )
  built = build_tree('wikiart', raw)
  assert list(built.manifest['splits']) == ['val']
  assert built.ids('val') == [PAINTED] and built.skipped('val') == {}


def test_bad_lines_are_named(wikiart):
  lines = [
    f'{PAINTED},0',
    f'{KNOWN},77',
    f'{BROKEN},',
    'no comma',
    '../x.jpg,2',
  ]
  lines += ['/etc/passwd,2', 'Realism/cut.jpg,2']
  write_tree(
    wikiart,
    {
      'Style/style_val.csv': '\r\n'.join(lines),
      'wikiart/Realism/cut.jpg': picture(9)[:300],
    },
  )
  built = build_tree('wikiart', wikiart, '--splits', 'val', '--max_bad', '1')
  assert built.ids('val') == [PAINTED]
  assert built.skipped('val') == {
    'bad_reference': [KNOWN],
    'broken_image': ['Realism/cut.jpg'],
    'missing_field': ['Style/style_val.csv:3', 'Style/style_val.csv:4'],
    'outside_raw': ['../x.jpg', '/etc/passwd'],
  }


def test_wrong_files_of_wikiart_are_refused(wikiart, capsys):
  for name, content, problem in (
    ('Style/style_val.csv', b'Realism/caf\xe9.jpg,2\n', 'byte 11 is not UTF-8'),
    ('Style/style_val.csv', '<html>, no\n', 'not the official layout'),
    ('Style/style_class.txt', 'Cubism\n', 'not the official layout'),
  ):
    write_tree(wikiart, {name: content})
    said = refusal('wikiart', wikiart, capsys, '--splits', 'val')
    assert name in said and problem in said
  (wikiart / 'Style/style_class.txt').unlink()
  said = refusal('wikiart', wikiart, capsys, '--splits', 'val')
  assert 'style_class.txt is not there' in said
  (wikiart / 'Style/style_val.csv').unlink()
  said = refusal('wikiart', wikiart, capsys, '--splits', 'val')
  assert 'Style/style_val.csv is not there' in said
