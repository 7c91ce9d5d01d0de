"""The page of records: what its filters hide."""

import json
import re

from tiny_pictures import put, still

from mmicl_jax.data.gallery import render_gallery
from mmicl_jax.data.opened import open_chain


def page(folder, rows):
  put(folder / 'a.png', still(1, kind='PNG'))
  put(folder / 'b.png', still(2, kind='PNG'))
  path = folder / 'r.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)), 'utf-8')
  index = open_chain(str(path), need_answer=False)
  return render_gallery(index, range(len(index)))


def record(dataset, number, count=1, answer='it', more=''):
  images = ['a.png', 'b.png'][:count]
  text = ''.join(f'image {i} is <image{i}>图. ' for i in range(count))
  return {
    'input_text': f'{text}What?{more}',
    'input_image': images,
    'output_text': answer,
    'id': number,
    'dataset': dataset,
  }


def left(html, option):
  """Titles of the cards that a choice leaves, by the page's own style."""
  [shown] = re.findall(
    rf'main:has\(#{option}:checked\) .card:not\(.{option}\) {{ display: none',
    html,
  ) and [option]
  cards = re.findall(r'<article class="card ([^"]*)">\s*<h2>line (\d+)', html)
  return [int(line) for classes, line in cards if shown in classes.split()]


def options(html, name):
  """{text: (id, count)} of a filter."""
  found = re.findall(
    rf'name="{name}" id="([^"]+)">([^<]*)<small>(\d+)</small>', html
  )
  return {text: (option, int(count)) for option, text, count in found}


def test_records_are_filtered_by_dataset_images_and_problem(tmp_path):
  html = page(
    tmp_path,
    [
      record('one', 1),
      record('<two>', 2, 2),
      record('one', 3, 2, answer=''),
      record('one', 4, more=' See image 7.'),
      record('one', 5, more=' See image 9.'),
      record('one', 1),
      {'input_text': 3},
    ],
  )
  datasets = options(html, 'dataset')
  assert left(html, datasets['one'][0]) == [1, 3, 4, 5, 6]
  assert left(html, datasets['&lt;two&gt;'][0]) == [2]
  images = options(html, 'images')
  assert [(text, n) for text, (_, n) in images.items()] == [('1', 4), ('2', 2)]
  assert left(html, images['2'][0]) == [2, 3]
  problems = options(html, 'problem')
  assert next(iter(problems)) == 'none'
  assert left(html, problems['none'][0]) == [1, 2]
  assert left(html, problems['The answer is empty.'][0]) == [3]
  [mention] = [text for text in problems if 'mentioned' in text]
  assert left(html, problems[mention][0]) == [4, 5]
  [twice] = [text for text in problems if 'ids are unique' in text]
  assert left(html, problems[twice][0]) == [6]
  for found in (datasets, images, problems):
    assert all(len(left(html, option)) == n for option, n in found.values())


def test_where_there_is_nothing_to_choose_there_is_no_filter(tmp_path):
  html = page(tmp_path, [record('one', 1), record('one', 2)])
  assert '<fieldset' not in html and html.count('<article') == 2
