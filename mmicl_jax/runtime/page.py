"""Templates of the package's folders to text; pages need no network, no script.

Every page extends runtime/page.html.j2, which has the look they share.
"""

import base64
import functools
from typing import Any

import jinja2

from mmicl_jax.runtime import show


def render(template: str, **values: Any) -> str:
  """The text of a template, named from the package: 'demo/page.html.j2'.

  In HTML all values are escaped; a value that is missing is an error.
  """
  return _environment().get_template(template).render(values)


def data_uri(data: bytes, kind: str = 'png') -> str:
  """An image's file inside the page."""
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
