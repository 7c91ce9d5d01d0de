"""Renders the templates that lie in the package's folders.

All pages extend runtime/page.html.j2, which has the look that they share. They
need neither network nor scripts.
"""

import base64
import functools
from typing import Any

import jinja2

from mmicl_jax.runtime import show


def render(template: str, **values: Any) -> str:
  """Renders a template, named by its path in the package: 'demo/page.html.j2'.

  In HTML all values are escaped. A missing value is an error.
  """
  return _environment().get_template(template).render(values)


def data_uri(data: bytes, kind: str = 'png') -> str:
  """A data URI with the bytes of an image file, for use in a page."""
  return f'data:image/{kind};base64,' + base64.b64encode(data).decode()


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('mmicl_jax', ''),
    autoescape=lambda name: name is None or name.endswith('.html.j2'),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters.update(
    cell=show.cell,
    count='{:,}'.format,
    duration=show.duration,
    percent=show.percent,
    size=show.size,
  )
  return environment
