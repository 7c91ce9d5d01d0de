"""Questions and captions of videos, which are shown as uniform frames."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  optional,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import answered, each, field, texts, words
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import lettered

FRAMES = {'frames': ('8', '12')}
_MSRVTT = ('TrainValVideo', 'TestVideo', 'videos', 'video', 'all')


def frame_refs(path: str, settings: Settings) -> tuple[PictureRef, ...]:
  """The frames of a video, in order."""
  count = int(settings['frames'])
  return tuple(PictureRef(path, frame=(i, count)) for i in range(1, count + 1))


def _msrvtt_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  if split == 'test':
    return [annotation('test_videodatainfo.json')]
  return [annotation('train_val_videodatainfo.json')]


def _msrvtt(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  path = the_file(paths)
  whole = tree.mapped(path)
  for key in ('videos', 'sentences'):
    if not isinstance(whole.get(key), list):
      raise tree.layout(path, f'it has no list "{key}"')
  official = {'val': 'validate'}.get(split, split)
  splits = {
    video['video_id']: video['split']
    for video in whole['videos']
    if isinstance(video, dict)
    and isinstance(video.get('video_id'), str)
    and isinstance(video.get('split'), str)
  }
  # A sentence of no video is of the file's first split: it is told of once.
  first = 'test' if split == 'test' else 'train'

  def split_of(row: Any) -> Any:
    video = row.get('video_id') if isinstance(row, dict) else None
    return splits.get(video, first) if isinstance(video, str) else first

  rows = [
    (f'{path}[{i}]', row)
    for i, row in enumerate(whole['sentences'])
    if split_of(row) == official
  ]
  folders = tree.folders(*_MSRVTT)

  def make(row: Any) -> SourceItem:
    video = field(row, 'video_id')
    if video not in splits:
      raise Bad('bad_reference')
    caption = answered(row, 'caption').strip()
    number = str(row['sen_id'])
    return SourceItem(
      number,
      number,
      {},
      frame_refs(tree.picture(folders, f'{video}.mp4'), settings),
      (caption,),
      meta={'video': video},
      score_id=video,
    )

  return each(rows, make, lambda row: field(row, 'sen_id', (int, str)))


def _qa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}_qa.json')]


def _msrvtt_qa(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del split
  folders = tree.folders(*_MSRVTT)

  def find(number: int) -> str:
    return tree.picture(folders, f'video{number}.mp4')

  return _questions(tree, paths[0], settings, find)


def _msvd_files(split: str, settings: Settings) -> Sequence[Wanted]:
  return [*_qa_files(split, settings), annotation('youtube_mapping.txt')]


def _msvd_qa(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del split
  assert paths[1] is not None
  clips: dict[str, str] = {}
  for number, line in enumerate(tree.text(paths[1]).splitlines(), 1):
    parts = line.split()
    if len(parts) == 2:
      clips[parts[1]] = parts[0]
    elif parts:
      raise tree.layout(paths[1], f'line {number} is not "clip vidN"')
  folders = tree.folders('YouTubeClips', 'videos', 'video')

  def find(number: int) -> str:
    if f'vid{number}' not in clips:
      raise Bad('bad_reference')
    return tree.picture(folders, f'{clips[f"vid{number}"]}.avi')

  return _questions(tree, paths[0], settings, find)


def _questions(
  tree: Tree, path: str | None, settings: Settings, find: Any
) -> Iterator[SourceItem | Skip]:
  """The layout of MSRVTT-QA and MSVD-QA."""
  assert path is not None

  def make(row: Any) -> SourceItem:
    video = field(row, 'video_id', int)
    said = answered(row, 'answer')
    number = str(row['id'])
    return SourceItem(
      number,
      number,
      {'question': words(row, 'question')},
      frame_refs(find(video), settings),
      (said,),
      meta={'video': str(video)},
    )

  return each(tree.listed(path), make, lambda row: field(row, 'id', (int, str)))


def _ivqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}.csv')]


def _ivqa(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """A clip has one question; scorers know it by its row."""
  del split
  path = the_file(paths)
  names = [f'answer{i}' for i in range(1, 6)]
  table = tree.table(path, 'video_id', 'start', 'end', 'question', *names)
  folders = tree.folders('videos', 'clips', 'video', '')
  rows = [(where, (i, row)) for i, (where, row) in enumerate(table)]

  def make(row: Any) -> SourceItem:
    number, values = row
    clip = _clip(row)
    answers = tuple(field(values, name) for name in names)
    if not any(answer.strip() for answer in answers):
      raise Bad('no_answer')
    return SourceItem(
      clip,
      clip,
      {'question': words(values, 'question')},
      frame_refs(tree.picture(folders, f'{clip}.webm'), settings),
      answers,
      meta={'video': clip},
      score_id=number,
    )

  return each(rows, make, _clip)


def _clip(row: Any) -> str:
  return '_'.join(field(row[1], name) for name in ('video_id', 'start', 'end'))


def _nextqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  folder = settings['form']
  own = [f'{folder}/{split}.csv', f'{folder.upper()}/{split}.csv']
  shown = annotation(*own, f'{split}.csv')
  found = [shown, annotation('map_vid_vidorID.json')]
  if folder == 'oe' and split == 'test':
    found.append(optional('add_reference_answer_test.json'))
  return found


def _nextqa(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del split
  path, mapping, *more = paths
  assert path is not None and mapping is not None
  several = settings['form'] == 'mc'
  choices = [f'a{i}' for i in range(5)] if several else []
  columns = ('video', 'question', 'answer', 'qid', 'type', *choices)
  rows = list(tree.table(path, *columns))
  if not several and rows and 'a0' in rows[0][1]:
    raise tree.layout(path, 'it has options: for form=oe take that of NExT-OE')
  places = tree.mapped(mapping)
  added = tree.mapped(more[0]) if more and more[0] else {}
  folders = tree.folders('NExTVideo', 'videos', 'video')

  def make(row: Any) -> SourceItem:
    video, qid = field(row, 'video'), field(row, 'qid')
    if not isinstance(places.get(video), str):
      raise Bad('bad_reference')
    fields = {'question': words(row, 'question')}
    meta: dict[str, Any] = {'video': video, 'type': row['type']}
    if several:
      shown = texts({'a': [row[name] for name in choices]}, 'a')
      index = answered(row, 'answer').strip()
      if index not in ('0', '1', '2', '3', '4'):
        raise Bad('bad_reference')
      meta['choices'] = list(shown)
      fields['options'] = lettered(shown)
      answers: tuple[str, ...] = (shown[int(index)],)
    else:
      answers = (field(row, 'answer').strip(),)
      other = added.get(video)
      if isinstance(other, dict) and isinstance(other.get(qid), str):
        answers += (other[qid],)
    if not any(x.strip() for x in answers):
      raise Bad('no_answer')
    pictures = frame_refs(
      tree.picture(folders, f'{places[video]}.mp4'), settings
    )
    name = f'{video}_{qid}'
    return SourceItem(name, name, fields, pictures, answers, meta=meta)

  return each(
    rows, make, lambda row: f'{field(row, "video")}_{field(row, "qid")}'
  )


def _nextqa_template(split: str, settings: Settings) -> str:
  del split
  return 'multiple_choice' if settings['form'] == 'mc' else 'video_qa'


def _dataset(name: str, shape: str, source: str, **rest: Any) -> Dataset:
  values: dict[str, Any] = {
    'category': 'video QA',
    'role': 'held-out',
    'licence': 'research only; videos of YouTube',
    'splits': ('train', 'val', 'test'),
    'template': 'video_qa',
    'settings': FRAMES,
  }
  return Dataset(name=name, shape=shape, source=source, **(values | rest))


DATASETS = (
  _dataset(
    'msrvtt',
    '{train_val,test}_videodatainfo.json, {TrainValVideo,TestVideo}/*.mp4',
    'Microsoft Research; the videos circulate as zips',
    category='video captioning',
    role='train',
    template='video_caption',
    files=_msrvtt_files,
    items=_msrvtt,
  ),
  _dataset(
    'msrvtt_qa',
    '{train,val,test}_qa.json, {TrainValVideo,TestVideo}/video*.mp4',
    'https://github.com/xudejing/video-question-answering',
    role='train',
    files=_qa_files,
    items=_msrvtt_qa,
  ),
  _dataset(
    'msvd_qa',
    '{train,val,test}_qa.json, youtube_mapping.txt, YouTubeClips/*.avi',
    'https://github.com/xudejing/video-question-answering',
    files=_msvd_files,
    items=_msvd_qa,
  ),
  _dataset(
    'ivqa',
    '{train,val,test}.csv, videos/<video_id>_<start>_<end>.webm',
    'https://antoyang.github.io/just-ask.html',
    files=_ivqa_files,
    items=_ivqa,
  ),
  _dataset(
    'nextqa',
    '{train,val,test}.csv, map_vid_vidorID.json, NExTVideo/*/*.mp4',
    'https://github.com/doc-doc/NExT-QA',
    licence='MIT; videos of YFCC100M',
    template=_nextqa_template,
    settings=FRAMES | {'form': ('mc', 'oe')},
    files=_nextqa_files,
    items=_nextqa,
  ),
)
