"""The code in README.md and docs/ runs, and prints what it is said to print."""

import base64
import json
import re
import shutil
import subprocess

import build_deps
import doc_pages
import pytest

pytest.importorskip('sybil', reason='needs sybil, of the extra `test`')
import doc_blocks  # noqa: E402

PAGES = [build_deps.ROOT / 'README.md', *doc_pages.pages()]
RUNNING = [page for page in PAGES if list(doc_blocks.parse(page))]


def name(page):
  return str(page.relative_to(build_deps.ROOT))


@pytest.mark.slow
@pytest.mark.parametrize('page', RUNNING, ids=name)
def test_blocks_run(page, world, request, monkeypatch):
  monkeypatch.chdir(world)
  document = doc_blocks.parse(page)
  if 'openai.OpenAI(' in document.text:
    document.namespace['openai'] = request.getfixturevalue('openai_client')
    for letter in 'ab':
      data = base64.b64encode((world / f'{letter}.png').read_bytes()).decode()
      document.namespace[letter] = f'data:image/png;base64,{data}'
  for example in document:
    example.evaluate()


def test_the_demo_is_asked_as_it_was_taught():
  """With `{image}` in each text and no declarations."""
  notebooks = (build_deps.ROOT / 'notebooks').glob('*.md')
  asking = []
  for page in (*PAGES, *notebooks):
    text = page.read_text('utf-8')
    if "load('runs/demo" in text:
      turns = re.findall(r"Turn\('([^']*)', (?:images=)?\[", text)
      assert all('{image}' in turn for turn in turns), name(page)
      asking += turns
  assert len(asking) >= 8
  serving = (build_deps.ROOT / 'docs/serving.md').read_text('utf-8')
  requests = re.findall(r'completions\.create\((.*?)^\)', serving, re.S | re.M)
  assert len(requests) == 2
  assert all('extra_body=inline' in request for request in requests)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('curl') is None, reason='no curl')
def test_curl_asks_about_a_picture(world, docs_server):
  serving = (build_deps.ROOT / 'docs/serving.md').read_text('utf-8')
  [block] = re.findall(r'^```sh\n(curl [^`]+base64[^`]+)^```$', serving, re.M)
  block = block.replace('localhost:8000', f'127.0.0.1:{docs_server.port}')
  shell = ['bash', '-ec', block]
  said = subprocess.run(shell, cwd=world, capture_output=True, check=True)
  answer = json.loads(said.stdout)
  assert answer['mmicl']['images'] == 1
  assert isinstance(answer['choices'][0]['message']['content'], str)


def test_what_is_left_out_has_a_reason():
  for page in PAGES:
    text = page.read_text('utf-8')
    for marker in re.findall(r'<!--+ *skip.*', text):
      assert re.fullmatch(r'<!--- skip: next "[^"]{10,}" -->', marker), name(
        page
      )


def test_the_pages_have_blocks_that_run():
  assert {'README.md', 'docs/serving.md', 'docs/generation.md'} <= {
    name(page) for page in RUNNING
  }
