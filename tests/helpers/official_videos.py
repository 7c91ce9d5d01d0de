"""Official files of video sets in miniature: see benchmark_trees.py."""

from official_trees import video_file, write_tree


def video_qa(top, suffix, mapping):
  def write(root):
    files = {}
    videos = []
    for start, split in ((0, 'train'), (2, 'test')):
      rows = []
      for i in range(2):
        number = start + i + 1
        videos.append(number)
        rows.append(
          {
            'category_id': 1,
            'video_id': number,
            'question': 'what is it?',
            'answer': 'dog',
            'id': 10 * number,
          }
        )
      files[f'{split}_qa.json'] = rows
    if mapping:
      files['youtube_mapping.txt'] = ''.join(
        f'clip{n} vid{n}\n' for n in videos
      )
    write_tree(root, files)
    for n in videos:
      name = f'clip{n}' if mapping else f'video{n}'
      video_file(root / top / f'{name}{suffix}', frames=12, first=20 * n)
    return root

  return write


def ivqa(root):
  files = {}
  for start, split in ((0, 'train'), (2, 'test')):
    rows = ['video_id,start,end,question,' + ','.join(
      f'answer{k}' for k in range(1, 6)
    )]  # fmt: skip
    for i in range(2):
      name = f'v{start + i}'
      rows.append(f'{name},0,3,what is it?,dog,dog,cat,red,no')
      video_file(
        root / f'videos/{name}_0_3.webm', 'libvpx', 12, 20 * (start + i)
      )
    files[f'{split}.csv'] = '\n'.join(rows) + '\n'
  return write_tree(root, files)


def nextqa(form):
  def write(root):
    files = {'map_vid_vidorID.json': {}, 'stopwords.txt': 'a\nthe\nis\n'}
    if form == 'oe':
      files['pos_tags.json'] = {'dog': 'NN'}  # stands in for nltk's tagger
    for start, split in ((0, 'train'), (2, 'test')):
      names = ['video', 'frame_count', 'width', 'height', 'question', 'answer']
      names += ['qid', 'type']
      names += [f'a{k}' for k in range(5)] if form == 'mc' else []
      rows = [','.join(names)]
      for i in range(2):
        video = f'{start + i + 1}'
        files['map_vid_vidorID.json'][video] = f'0/{video}'
        answer = '1' if form == 'mc' else 'dog'
        cells = [video, '12', '64', '48', 'what is it', answer, '0', 'CW']
        cells += ['dog', 'cat', 'red', 'no', 'yes'] if form == 'mc' else []
        rows.append(','.join(cells))
        video_file(
          root / f'NExTVideo/0/{video}.mp4', frames=12, first=20 * (start + i)
        )
      files[f'{form}/{split}.csv'] = '\n'.join(rows) + '\n'
    return write_tree(root, files)

  return write
