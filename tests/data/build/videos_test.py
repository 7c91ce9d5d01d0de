"""Videos, built from official trees in miniature: MP4, AVI and WebM."""

import pytest
from official_trees import (
  FRAMES,
  build_tree,
  frame_number_of,
  refusal,
  video_file,
  write_tree,
)

pytest.importorskip('av', reason='videos need PyAV')


def frames_of(built, record):
  return [frame_number_of(built.out / p) for p in record['input_image']]


def uniform(count):
  """Numbers of the frames at the times duration x i / (count + 1)."""
  return [int(FRAMES * i / (count + 1)) for i in range(1, count + 1)]


def assert_uniform(built, record, count=8):
  found = frames_of(built, record)
  assert found == sorted(set(found)) and len(found) == count
  off = [abs(a - b) for a, b in zip(found, uniform(count), strict=True)]
  assert max(off) <= 1, found
  # A video is shown once, one name for each frame.
  for i in range(count):
    assert record['input_text'].count(f'<image{i}>图') == 1
  assert record['input_text'].count('图') == count


def clip(number, split, **more):
  return {
    'category': 9,
    'url': '',
    'video_id': f'video{number}',
    'start time': 137.72,
    'end time': 149.44,
    'split': split,
    'id': number,
    **more,
  }


def sentence(number, video, caption):
  return {'caption': caption, 'video_id': f'video{video}', 'sen_id': number}


@pytest.fixture
def msrvtt(tmp_path):
  """Sentences are not grouped; train and validate share file and folder."""
  raw = write_tree(
    tmp_path / 'raw',
    {
      'train_val_videodatainfo.json': {
        'info': {},
        'videos': [
          clip(6513, 'validate'),
          clip(0, 'train'),
          clip(1, 'train'),
          clip(2, 'train', video_id='v' * 300),
        ],
        'sentences': [
          sentence(66, 0, 'a boat is folded '),
          sentence(7, 6513, 'a hat'),
          sentence(65, 1, 'a lost clip'),
          sentence(64, 0, 'paper 图 on <image9>'),
          sentence(63, 0, ''),
          sentence(62, 12, 'no such video'),
          {'caption': 'a list', 'video_id': [0], 'sen_id': 61},
          sentence(66, 0, 'its id is taken'),
          {'caption': 'a name', 'video_id': 'v' * 300, 'sen_id': 60},
        ],
      },
      'test_videodatainfo.json': {
        'info': {},
        'videos': [clip(7010, 'test')],
        'sentences': [sentence(0, 7010, 'a test')],
      },
      'TrainValVideo/video1.mp4': b'\0' * 500,
    },
  )
  video_file(raw / 'TrainValVideo/video0.mp4')
  video_file(raw / 'TrainValVideo/video6513.mp4')
  video_file(raw / 'TestVideo/video7010.mp4')
  return raw


def test_msrvtt_captions_of_all_splits(msrvtt):
  built = build_tree('msrvtt', msrvtt)
  assert list(built.manifest['splits']) == ['train', 'val', 'test']
  assert built.ids('train') == ['66', '64']
  assert built.ids('val') == ['7'] and built.ids('test') == ['0']
  assert built.skipped('train') == {
    'bad_reference': ['62'],
    'broken_video': ['65'],
    'duplicate_id': ['66'],
    'missing_field': ['61'],
    'missing_file': ['60'],  # no file can have such a name
    'no_answer': ['63'],
  }
  assert built.skipped('val') == {} == built.skipped('test')
  for split in ('train', 'val', 'test'):
    for record in built.records(split):
      assert_uniform(built, record)
  first, second = built.records('train')
  assert first['output_text'] == 'a boat is folded'
  assert first['meta']['score_id'] == 'video0'
  assert first['input_image'] == second['input_image']
  assert '图' not in second['output_text'] and 'paper' in second['output_text']
  assert first['meta']['shots'] == []
  assert all(path.endswith('.jpg') for path in first['input_image'])


def test_twelve_frames_if_asked(msrvtt):
  built = build_tree('msrvtt', msrvtt, '--set', 'frames=12', '--splits', 'val')
  [record] = built.records('val')
  assert_uniform(built, record, 12)
  assert built.manifest['settings'] == {'frames': '12'}


def test_wrong_files_of_msrvtt_are_refused(msrvtt, capsys):
  name = 'train_val_videodatainfo.json'
  write_tree(msrvtt, {name: {'videos': []}})
  assert f'{name}: not the official layout' in refusal('msrvtt', msrvtt, capsys)
  said = refusal('msrvtt', msrvtt, capsys, '--set', 'frames=9')
  assert 'frames=9' in said
  (msrvtt / name).unlink()
  said = refusal('msrvtt', msrvtt, capsys, '--splits', 'train')
  assert f'{name} is not there' in said


def asked(number, video, **more):
  row = {'category_id': 14, 'video_id': video, 'question': 'what is folded?'}
  return {**row, 'answer': 'boat', 'id': number, **more}


def test_msrvtt_qa_has_ids_of_videos_as_ints(tmp_path):
  raw = write_tree(
    tmp_path / 'raw',
    {
      'val_qa.json': [
        asked(158581, 6513),
        asked(158582, 6513, answer=' '),
        asked(158583, '6513'),
        asked(158584, 6513, question=''),
        asked(158585, 6514),
      ]
    },
  )
  video_file(raw / 'TrainValVideo/video6513.mp4', 'h264')
  built = build_tree('msrvtt_qa', raw, '--max_bad', '1')
  assert list(built.manifest['splits']) == ['val']
  [record] = built.records('val')
  assert record['id'] == 'msrvtt_qa/val/158581'
  assert record['output_text'] == 'boat'
  assert record['meta']['answers'] == ['boat']
  assert 'what is folded?' in record['input_text']
  assert_uniform(built, record)
  assert built.skipped('val') == {
    'empty_text': ['158584'],
    'missing_field': ['158583'],
    'missing_file': ['158585'],
    'no_answer': ['158582'],
  }


def test_msvd_names_its_avis_in_a_mapping(tmp_path, capsys):
  raw = write_tree(
    tmp_path / 'raw',
    {
      'test_qa.json': [
        {'answer': 'drum', 'id': 0, 'question': 'what?', 'video_id': 1},
        {'answer': 'drum', 'id': 1, 'question': 'what?', 'video_id': 1971},
      ],
      'youtube_mapping.txt': '-4wsuPCjDBc_5_15 vid1\n_x_0_9 vid2\n',
    },
  )
  video_file(raw / 'YouTubeClips/-4wsuPCjDBc_5_15.avi')
  built = build_tree('msvd_qa', raw)
  # The mapping alone makes no split of the others.
  assert list(built.manifest['splits']) == ['test']
  [record] = built.records('test')
  assert_uniform(built, record)
  assert built.skipped('test') == {'bad_reference': ['1']}
  assert set(built.manifest['raw']) == {'test_qa.json', 'youtube_mapping.txt'}
  (raw / 'youtube_mapping.txt').unlink()
  said = refusal('msvd_qa', raw, capsys)
  assert 'youtube_mapping.txt is not there' in said


def test_ivqa_outputs_one_of_five_and_keeps_all(tmp_path):
  """Its ids begin with '-' or '_', its answers may look like no value."""
  head = 'video_id,start,end,question,answer1,answer2,answer3,answer4,answer5'
  raw = write_tree(
    tmp_path / 'raw',
    {
      'test.csv': '\ufeff'
      + '\r\n'.join(
        [
          f'{head},extra',
          '-aB,3,9,"What, or who?",NA,None,NA,nan,,x',
          '_cD,0,5,What?,,,, ,',
          '_gone,0,5,What?,a,a,a,a,a',
          '-aB,3,9,Again?,a,a,a,a,a,x',
          '_short,0,5,What?,a',
          '',
        ]
      )
    },
  )
  video_file(raw / 'videos/-aB_3_9.webm', 'libvpx-vp9')
  built = build_tree('ivqa', raw, '--max_bad', '1')
  [record] = built.records('test')
  assert record['id'] == 'ivqa/test/-aB_3_9'
  assert record['meta']['answers'] == ['NA', 'None', 'NA', 'nan', '']
  assert record['output_text'] in {'NA', 'None', 'nan'}
  assert record['meta']['score_id'] == '0'
  assert 'What, or who?' in record['input_text']
  assert_uniform(built, record)
  assert built.skipped('test') == {
    'duplicate_id': ['-aB_3_9'],
    'missing_field': ['_short_0_5'],
    'missing_file': ['_gone_0_5'],
    'no_answer': ['_cD_0_5'],
  }


MC = 'video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4'
OE = 'video,frame_count,width,height,question,answer,qid,type'


@pytest.fixture
def nextqa(tmp_path):
  """qid is unique inside a video only; videos lie in folders of numbers."""
  raw = write_tree(
    tmp_path / 'raw',
    {
      'test.csv': '\n'.join(
        [
          MC,
          '401,36,64,48,why run,3,0,CW,oak,None,"fir, red",elm,ash',
          '402,36,64,48,how many,0,0,DC,1,2,3,4,5',
          '401,36,64,48,why run,5,1,CW,a,b,c,d,e',
          '401,36,64,48,why run,,2,CW,a,b,c,d,e',
          '403,36,64,48,why run,1,0,CW,a,b,c,d,e',
          '',
        ]
      ),
      'oe/test.csv': f'{OE}\n401,36,64,48,why run,to play,0,CW\n',
      'add_reference_answer_test.json': {'401': {'0': 'for fun'}},
      'map_vid_vidorID.json': {'401': '1201/401', '402': '1164/402'},
    },
  )
  video_file(raw / 'NExTVideo/1201/401.mp4')
  video_file(raw / 'NExTVideo/1164/402.mp4')
  return raw


def test_nextqa_of_five_options(nextqa):
  built = build_tree('nextqa', nextqa, '--max_bad', '1')
  assert list(built.manifest['splits']) == ['test']
  assert built.ids('test') == ['401_0', '402_0']
  first, second = built.records('test')
  choices = ['oak', 'None', 'fir, red', 'elm', 'ash']
  assert first['output_text'] == 'elm' and second['output_text'] == '1'
  assert first['meta']['choices'] == choices
  places = [first['input_text'].index(choice) for choice in choices]
  assert places == sorted(places)
  for record in (first, second):
    assert_uniform(built, record)
  assert built.skipped('test') == {
    'bad_reference': ['401_1', '403_0'],
    'no_answer': ['401_2'],
  }


def test_nextqa_with_open_answers(nextqa, capsys):
  """Both forms call their file test.csv."""
  built = build_tree('nextqa', nextqa, '--set', 'form=oe')
  [record] = built.records('test')
  assert record['meta']['answers'] == ['to play', 'for fun']
  assert record['output_text'] in record['meta']['answers']
  assert record['id'] == 'nextqa/test/401_0'
  (nextqa / 'oe/test.csv').unlink()
  said = refusal('nextqa', nextqa, capsys, '--set', 'form=oe')
  assert 'test.csv: not the official layout' in said
  write_tree(nextqa, {'test.csv': f'{OE}\n'})
  said = refusal('nextqa', nextqa, capsys)
  assert 'test.csv: not the official layout' in said and 'a0' in said
