"""Hands out the page: the files in page/, with a policy against scripts.

The files are listed once, so no path of a client ever reaches the disk.
"""

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mmicl_jax.serve.http_errors import HttpError

FOLDER = Path(__file__).parent / 'page'
POLICY = (
  "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
  "frame-ancestors 'none'"
)
_HEADERS = {
  'content-security-policy': POLICY,
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
}
# Not left to the machine's own table, which may lack them.
_KINDS = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
}


def page_routes(folder: Path = FOLDER) -> list[Route]:
  """The routes `/` (index.html) and `/page/NAME` of a folder's files."""
  files = {
    path.relative_to(folder).as_posix(): path
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.suffix != '.py'
  }

  def send_file(request: Request) -> Response:
    name = request.path_params.get('name', 'index.html')
    if name not in files:
      raise HttpError(404, 'There is no such path.', code='not_found')
    path = files[name]
    kind = _KINDS.get(path.suffix) or mimetypes.guess_type(name)[0]
    return Response(path.read_bytes(), 200, dict(_HEADERS), kind)

  return [
    Route('/', send_file),
    Route('/page/{name:path}', send_file),
  ]
