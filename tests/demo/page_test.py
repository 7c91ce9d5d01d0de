"""The demo's page: complete, escaped, alone. Results survive JSON."""

import re

import pytest
from PIL import Image

from mmicl_jax.demo import data, page, plots
from mmicl_jax.demo.results import (
  LedgerRow,
  PhaseResult,
  Point,
  Results,
  Sample,
  Score,
)
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.page import data_uri

HOSTILE = '<script>alert("x")</script> & <img src=http://evil.example/a.png>'


@pytest.fixture
def results(tmp_path) -> Results:
  folder = str(tmp_path)
  samples = []
  for i, task in enumerate(('icl_words_4', 'pointing', 'composition')):
    item = data.make_item(task, 0, i, 'heldout')
    samples.append(Sample.of(item, item.example.targets, folder))
  item = data.make_item('icl_words_2', 0, 3, 'heldout')
  weighed = Sample.of(item, item.example.targets, folder, (3.25, -0.5))
  item = data.make_item('icl_words_2', 0, 9, 'heldout')
  samples.append(Sample.of(item, HOSTILE, folder))
  curve = tuple(
    Point(step, 3.0 - step / 50, step / 100 if step % 20 == 0 else None)
    for step in range(0, 100, 5)
  )
  return Results(
    seed=7,
    device=f'2 CPU cores {HOSTILE}',
    seconds=561.4,
    memory_bytes=2_840_000_000,
    parameters=387_160,
    shots=(
      Score('icl_words_0', 600, 0, 0.0, 0.0, 0, 2),
      Score('icl_words_2', 600, 543, 0.5, 1.0, 2, 2),
      Score('icl_words_4', 600, 584, 0.5, 1.0, 4, 2),
      Score('icl_5_words_5', 600, 491, 0.2, 1.0, 5, 5),
    ),
    phases=(
      PhaseResult(
        'stand-in', 'all', 'the whole model', 100, 380.0, 400.0, curve
      ),
      PhaseResult('stage 1', 'pretrain', '', 100, 40.0, 520.0, curve),
      PhaseResult('stage 2', 'tune', HOSTILE, 100, 110.0, 410.0, curve),
    ),
    tasks=(
      Score('pointing', 200, 168, 0.14),
      Score(HOSTILE, 200, 91, 0.1),
    ),
    ledger=(
      LedgerRow('stage 1', 'vit', 61_240, 0, 244_960, 0),
      LedgerRow('stage 1', 'projector', 4_160, 4_160, 16_640, 33_280),
      LedgerRow('stage 2', 'vit', 61_240, 0, 244_960, 0),
      LedgerRow('stage 2', 'projector', 4_160, 4_160, 16_640, 33_280),
    ),
    samples=tuple(samples),
    ask_command=f"mmicl generate --prompt '{HOSTILE}'",
    ask_answer='image 1',
    export='exported',
    digits=(Score('digits_icl_words_4', 600, 278, 0.5, 1.0, 4, 2),),
    seeds={'icl_words_4': (0.931, 0.95)},
    weighed=(weighed,),
    unseen=weighed.images,
    versions={'jax': '0.10.2', HOSTILE: HOSTILE},
  )


@pytest.fixture
def html(results, tmp_path) -> str:
  path = page.write_page(results, str(tmp_path))
  with open(path, encoding='utf-8') as file:
    return file.read()


def test_hostile_text_is_only_text(html):
  assert '<script' not in html
  assert '<img src=http' not in html
  assert '&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;' in html


def test_the_page_fetches_nothing(html):
  sources = re.findall(r'<[^>]+?\s(?:src|href|srcset|data|poster)=', html)
  embedded = re.findall(r'src="data:image/png;base64,[A-Za-z0-9+/=]+"', html)
  assert len(sources) == len(embedded)
  for forbidden in ('<link', '<script', '<iframe', '@import', 'url('):
    assert forbidden not in html
  assert "default-src 'none'" in html


def test_the_page_shows_what_was_measured(html, results):
  text = re.sub(r'<[^>]+>', '', html)
  for shown in (
    '97.3 %', '81.8 %', '46.3 %', '93.1 %', '95.7 – 98.4', '9 min 21 s',
    '2.8 GB', '387,160',
    'stage 2', 'frozen', '33.3 kB', 'jax 0.10.2', 'image 1', 'exported',
  ):  # fmt: skip
    assert shown in text, shown
  assert html.count('✓ right') == 4 and html.count('✗ wrong') == 1
  wrong = results.samples[-1]
  assert f'right would be <code>{wrong.target}</code>' in html


def test_every_image_stands_where_the_model_reads_it(html, results):
  cards = re.findall(r'<article.*?</article>', html, re.DOTALL)
  shown = (*results.weighed, *results.samples)
  for card, sample in zip(cards, shown, strict=True):
    names = re.findall(r'<i>&lt;image(\d+)&gt;</i><img src="data:', card)
    assert names == [str(i) for i in range(len(sample.images))]
    assert '图' not in card


def test_images_keep_their_order(results, tmp_path):
  card = page._card(results.samples[0], str(tmp_path))
  shown = [
    piece['image']
    for line in card['lines']
    for piece in line['pieces']
    if 'image' in piece
  ]
  for uri, path in zip(shown, results.samples[0].images, strict=True):
    assert uri == data_uri((tmp_path / path).read_bytes())


def test_demonstrations_are_coloured_by_what_they_carried(html, results):
  (card, *_) = re.findall(r'<article.*?</article>', html, re.DOTALL)
  weights = re.findall(r'carrying (\w+)" style="--s: ([\d.]+)"', card)
  assert weights == [('good', '0.81'), ('bad', '0.12')]
  assert re.findall(r'<b>([+−][\d.]+)</b>', card) == ['+3.25', '−0.50']


def test_the_interval_of_seeds_is_that_of_their_mean():
  low, high = plots.mean_interval([0.9, 0.92, 0.94])
  # 0.92 -+ t(0.975, 2) 0.02 / sqrt(3), by a table of Student's t: 4.303.
  assert low == pytest.approx(0.92 - 4.303 * 0.02 / 3**0.5, abs=1e-5)
  assert high == pytest.approx(0.92 + 4.303 * 0.02 / 3**0.5, abs=1e-5)


def test_plots_are_readable_png_and_repeat(results, html, tmp_path):
  again = plots.all_plots(results)
  assert set(again) == {'shots', 'digits', 'loss', 'accuracy', 'tasks'}
  for name, png in again.items():
    path = tmp_path / 'plots' / f'{name}.png'
    assert path.read_bytes() == png
    with Image.open(path) as image:
      assert min(image.size) > 200


def test_a_bare_run_has_a_page_too(results, tmp_path):
  bare = Results(0, 'cpu', 1.0, 999, 10, results.shots[:1], ())
  html = page.render_page(bare, plots.all_plots(bare), str(tmp_path))
  assert '0.0 %' in html and '999 B' in html


def test_results_survive_json(results, tmp_path):
  assert Results.load(results.save(str(tmp_path))) == results


def test_other_json_is_refused_in_a_sentence(tmp_path):
  path = tmp_path / 'results.json'
  for text in ('{"shots": []}', '[1]', '{', '{"shots": [{"x": 1}]}'):
    path.write_text(text)
    with pytest.raises(UserError, match='results.json is not'):
      Results.load(str(path))


def test_shot_table_has_chance_items_and_interval(results):
  row = results.shot_table()[2]
  assert row == {
    'classes': 'unseen letters',
    'task': 'invented words',
    'words': 2,
    'shots': 4,
    'items': 600,
    'right': '97.3 %',
    '95 % interval': '95.7 to 98.4 %',
    'chance': '50 %',
    'best possible': '100 %',
    'median of seeds': '95.0 (93.1 to 97.3)',
  }
  digits = [r for r in results.shot_table() if r['classes'] == 'digits']
  assert [r['words'] for r in digits] == [2]
  assert results.headline.shots == 4 and results.headline.ways == 2
