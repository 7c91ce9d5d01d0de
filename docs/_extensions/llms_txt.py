"""Writes llms.txt beside the site: each page with its title and first words."""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes

INTRODUCTION = (
  'MMICL in JAX: a vision-language model (ViT-g, Q-Former, FLAN-T5) that reads '
  'prompts in which any number of images and text interleave, and learns from '
  'demonstrations in the prompt. Python package `mmicl_jax`, command `mmicl`.'
)


def write(app, exception):
  """Only of HTML that was built without an error."""
  if exception or app.builder.format != 'html':
    return
  env = app.env
  lines = [f'# {app.config.project}', '', f'> {INTRODUCTION}', '']
  master = env.get_doctree(app.config.root_doc)
  for tree in master.findall(addnodes.toctree):
    lines += [f'## {tree["caption"] or "Pages"}', '']
    for _, page in tree['entries']:
      if page in env.titles:
        lines.append(_line(env, page))
    lines.append('')
  Path(app.outdir, 'llms.txt').write_text('\n'.join(lines), 'utf-8')


def _line(env, page):
  title = env.titles[page].astext()
  # Badges are a paragraph, too: pictures that are links.
  paragraphs = env.get_doctree(page).findall(nodes.paragraph)
  said = (p.astext() for p in paragraphs if not list(p.findall(nodes.image)))
  sentence = ' '.join(next(said, '').split()).split('. ')[0].rstrip('.:')
  return f'- [{title}]({page}.html): {sentence}.'


def setup(app):
  app.connect('build-finished', write)
  return {'parallel_read_safe': True}
