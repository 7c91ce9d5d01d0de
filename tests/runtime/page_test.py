"""Pages escape what they show and need nothing but themselves."""

import re

import jinja2
import pytest

from mmicl_jax.parity.report import ParityReport, ParityRow
from mmicl_jax.runtime import page

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def parity(tmp_path):
  rows = (
    ParityRow('vit', 1e-6, 1e-7, 1e-5, True),
    ParityRow(HOSTILE, 2.0, 0.5, 1e-5, False),
  )
  report = ParityReport(rows, {'source': HOSTILE}, (HOSTILE,))
  report.write_html(tmp_path / 'page.html')
  return (tmp_path / 'page.html').read_text('utf-8')


def test_the_page_of_parity_marks_what_differs(parity):
  assert '<script' not in parity and parity.count('&lt;script') == 4
  [bad] = re.findall(r'<tr class="bad">(.*?)</tr>', parity)
  assert '<td>0.5</td>' in bad and '<td>OVER</td>' in bad
  assert '<h1 class="bad">the models differ in 1 of 2 places' in parity


def test_every_page_has_the_base_and_fetches_nothing(parity):
  assert parity.startswith('<!doctype html>')
  assert "default-src 'none'" in parity and parity.count('<style>') == 1
  assert not re.findall(r'<link|<script|@import|url\(', parity)


def test_a_missing_value_is_an_error():
  with pytest.raises(jinja2.UndefinedError, match='cards'):
    page.render('data/gallery.html.j2', path='', number=1, size=1, filters=[])


def test_an_image_stands_in_the_page():
  assert page.data_uri(b'abc', 'jpeg') == 'data:image/jpeg;base64,YWJj'
