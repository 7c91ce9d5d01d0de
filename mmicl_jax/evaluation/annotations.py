"""The folder of annotations that a benchmark's scorer reads, of official files.

Most files are copied under their names. Where the scorer's form is another one
than that of the download (mmicl score says which), it is written here.
"""

import collections
import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.data.build.items import SourceItem
from mmicl_jax.evaluation.declaration import Benchmark
from mmicl_jax.evaluation.items import ItemSource
from mmicl_jax.runtime import files

FOLDER = 'annotations'
# just-ask's numbers of MSVD-QA's and MSRVTT-QA's types of questions.
_TYPES = ('what', 'how', 'color', 'where', 'who', 'when')
_ANSWERS = 4000  # the commonest of train, which its model could give

_Texts = Mapping[str, str]


def write_annotations(
  benchmark: Benchmark, sources: Sequence[ItemSource], folder: Path
) -> None:
  """Writes or copies what the scorer of a benchmark needs into a folder."""
  convert = _CONVERTERS.get(benchmark.dataset)
  tree = sources[0].plan.tree
  if convert is not None:
    for name, text in convert(sources).items():
      files.write_text(folder / name, text)
  else:
    for source in sources:
      for path in filter(None, source.paths):
        name = os.path.basename(path)
        if benchmark.dataset == 'vl_icl':
          name = f'{source.split}/{name}'
        files.copy_file(tree.annotations / path, folder / name)
  for name in benchmark.annotations:
    found = tree.find(name)
    if found is not None:
      files.copy_file(tree.annotations / found, folder / os.path.basename(name))


def _mme(sources: Sequence[ItemSource]) -> _Texts:
  """TASK.txt: image, question and answer of each line, as the release's."""
  return {
    f'{source.split}.txt': ''.join(
      f'{item.source}\t{item.fields["question"]}\t{item.answers[0]}\n'
      for item in source.items
    )
    for source in sources
  }


def _video_qa(sources: Sequence[ItemSource]) -> _Texts:
  """just-ask's table, and its vocabulary where the questions of train are."""
  [source] = sources
  rows = [
    {
      'question': item.fields['question'],
      'answer': item.answers[0],
      'video_id': item.meta['video'],
      'id': item.id,
      'type': _TYPES.index(_type(item.fields['question'])),
    }
    for item in source.items
  ]
  texts = {f'{source.split}.csv': _table(rows)}
  tree = source.plan.tree
  if train := tree.find('train_qa.json'):
    answers = collections.Counter(
      row['answer']
      for _, row in tree.listed(train)
      if isinstance(row, dict) and isinstance(row.get('answer'), str)
    )
    common = [answer for answer, _ in answers.most_common(_ANSWERS)]
    texts['vocab.json'] = json.dumps({x: i for i, x in enumerate(common)})
  return texts


def _type(question: str) -> str:
  """Colour goes before the first word; of another first word it is what."""
  if 'color' in question:
    return 'color'
  first = question.split(' ')[0]
  return first if first in _TYPES else 'what'


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
  file = io.StringIO()
  writer = csv.DictWriter(file, list(rows[0]) if rows else ['id'])
  writer.writeheader()
  writer.writerows(rows)
  return file.getvalue()


def _websrc(sources: Sequence[ItemSource]) -> _Texts:
  """The baseline's JSON, of the released tables."""
  domains: dict[str, dict[str, list[Any]]] = {}
  for source in sources:
    for item in source.items:
      pages = domains.setdefault(item.meta['domain'], {})
      answer = {
        'text': item.answers[0] if item.answers else '',
        'element_id': item.meta.get('element_id', -1),
        'answer_start': 0,
      }
      pages.setdefault(item.id[2:9], []).append(
        {
          'id': item.id,
          'question': item.fields['question'],
          'answers': [answer],
        }
      )
  data = [
    {
      'domain': domain,
      'websites': [{'page_id': p, 'qas': qas} for p, qas in pages.items()],
    }
    for domain, pages in domains.items()
  ]
  name = f'websrc1.0_{sources[0].split}.json'
  return {name: json.dumps({'version': '1.0', 'data': data})}


def _bongard(sources: Sequence[ItemSource]) -> _Texts:
  """A line for each query; class 1 is positive."""
  lines = [
    json.dumps(
      {
        'split': source.split,
        'id': item.id,
        'label': int(item.answers[0] == 'positive'),
      }
    )
    for source in sources
    for item in source.items
  ]
  return {'queries.jsonl': '\n'.join(lines) + '\n'}


def _captions(sources: Sequence[ItemSource]) -> _Texts:
  """COCO's form, of whatever split the captions come from."""
  texts = {}
  for source in sources:
    images: dict[str, None] = {}
    rows = []
    for item in source.items:
      images[str(item.score_id)] = None
      rows.append(
        {
          'id': int(item.id),
          'image_id': int(str(item.score_id)),
          'caption': item.answers[0],
        }
      )
    value = {'images': [{'id': int(x)} for x in images], 'annotations': rows}
    texts[f'captions_{source.split}.json'] = json.dumps(value)
  return texts


def _problems(sources: Sequence[ItemSource]) -> _Texts:
  """IconQA and ScienceQA: the problems of these splits are the test split."""
  tree = sources[0].plan.tree
  pids = [item.id for source in sources for item in source.items]
  texts = {'pid_splits.json': json.dumps({'test': pids})}
  path = tree.find('problems.json', 'scienceqa/problems.json')
  if path is not None:
    texts['problems.json'] = tree.text(path)
  else:
    rows = {
      item.id: _own_problem(source, item)
      for source in sources
      for item in source.items
    }
    texts['problems.json'] = json.dumps(rows)
  return texts


def _own_problem(source: ItemSource, item: SourceItem) -> Any:
  """IconQA's data.json beside a problem's picture."""
  folder = os.path.dirname(item.pictures[0].path)
  return source.plan.tree.json(os.path.join(folder, 'data.json'))


_CONVERTERS: dict[str, Callable[[Sequence[ItemSource]], _Texts]] = {
  'mme': _mme,
  'msvd_qa': _video_qa,
  'msrvtt_qa': _video_qa,
  'websrc': _websrc,
  'bongard_hoi': _bongard,
  'coco_caption': _captions,
  'iconqa': _problems,
  'scienceqa': _problems,
}
