"""The notebooks are those of their Markdown, run, and fit where they say so."""

import ast
import copy
import os
import re
import shlex
import sys

import build_deps
import pytest

for package in ('jupytext', 'nbclient', 'ipykernel'):
  pytest.importorskip(package, reason=f'needs {package}, of the extra `test`')

import nbclient  # noqa: E402

import notebooks  # noqa: E402

SOURCES = notebooks.sources()
# A shell command of a cell, over all its lines; and the settings of a run.
_COMMAND = re.compile(r'^( *)!(?:.*\\\n)*.*$', re.M)
_SETTINGS = re.compile(r'SETTINGS = (\[.*?\])', re.S)
_COMPILED = re.compile(r'\$ (mmicl compile --topology.*?[^\\])\n', re.S)


@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
def test_the_notebook_is_what_jupytext_makes_of_its_markdown(source):
  """`python tools/notebooks.py` writes it."""
  written = source.with_suffix('.ipynb').read_text('utf-8')
  assert written == notebooks.as_json(source)


def checked(source):
  """The notebook, in which a command that fails ends the run."""
  notebook = copy.deepcopy(notebooks.notebook(source))
  for cell in notebook.cells:
    if cell.cell_type == 'code':
      cell.source = _COMMAND.sub(r'\g<0>\n\1assert not _exit_code', cell.source)
  return notebook


@pytest.fixture
def command_line(tmp_path, monkeypatch):
  """`mmicl` of this tree, in an empty folder."""
  programs = tmp_path / 'bin'
  programs.mkdir()
  program = programs / 'mmicl'
  program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mmicl_jax "$@"\n')
  program.chmod(0o755)
  paths = [str(build_deps.ROOT), str(build_deps.ROOT / 'notebooks')]
  monkeypatch.setenv('PATH', f'{programs}{os.pathsep}{os.environ["PATH"]}')
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
  monkeypatch.setenv('MMICL_SMOKE', '1')
  monkeypatch.setenv('MPLBACKEND', 'agg')
  folder = tmp_path / 'work'
  folder.mkdir()
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
def test_the_notebook_runs(source, command_line):
  client = nbclient.NotebookClient(
    checked(source),
    timeout=300,
    resources={'metadata': {'path': str(command_line)}},
  )
  client.execute()


def test_the_memory_was_computed_for_the_settings_of_the_notebook():
  """The command whose output stands there has the cell's very settings."""
  for name in ('finetune', 'kaggle_xxl'):
    text = (notebooks.FOLDER / f'{name}.md').read_text('utf-8')
    settings = ast.literal_eval(
      re.search(r'SETTINGS = (\[.*?\])', text, re.S)[1]
    )
    command = re.search(r'\$ (mmicl compile --topology.*?[^\\])\n', text, re.S)[
      1
    ]
    words = shlex.split(command.replace('\\\n', ' '))
    assert words[4:] == settings
    assert re.search(r'fits \([\d.]+ of 16 GiB\)', text)


def test_all_notebooks_are_of_one_repository():
  addresses = set()
  for source in SOURCES:
    text = source.read_text('utf-8')
    badges = re.findall(r'/([\w.-]+/mmicl_jax)/blob/main/notebooks/(\w+)', text)
    assert len(badges) == 2 and {name for _, name in badges} == {source.stem}
    addresses |= set(re.findall(r'github(?:\.com)?/([\w.-]+/mmicl_jax)', text))
  assert len(addresses) == 1
