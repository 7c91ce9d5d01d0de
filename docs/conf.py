"""The documentation as a site: `sphinx-build -W docs build/site`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / '_extensions')]

project = 'MMICL in JAX'
author = 'The authors of mmicl_jax'
language = 'en'
extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
  'sphinx_copybutton',
  'docstrings',
  'generated_pages',
  'llms_txt',
]
exclude_patterns = ['_build', 'reference/generated/*']

nb_execution_mode = 'off'  # tests run them

myst_enable_extensions = ['deflist']
myst_heading_anchors = 3
# Blocks of the docs that are no Python stay as they are.
suppress_warnings = ['misc.highlighting_failure']

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True

html_theme = 'furo'
html_title = project
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False
pygments_style = 'friendly'
pygments_dark_style = 'github-dark'
