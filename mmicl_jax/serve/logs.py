"""What is logged: ids, counts and times, never what was asked or answered."""

import logging
import re
import time
import traceback
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmicl_jax.serve.http_errors import failure

logger = logging.getLogger('mmicl_jax.serve')

PROBES = ('/ping', '/health', '/health/live', '/health/ready', '/metrics')
_SAFE_ID = re.compile(r'[\x21-\x7e]{1,128}')
_MOST_PATH = 80  # characters that are logged


class RequestLog:
  """Gives each request an id, logs it when it ends, and hides tracebacks.

  The id is the client's `x-request-id`, if it sent a short one of printable
  ASCII, and is sent back. `scope['mmicl_id']` has it.
  """

  def __init__(self, app: ASGIApp):
    self._app = app

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    given = Headers(scope=scope).get('x-request-id', '')
    own = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
    scope['mmicl_id'] = own
    begun, status = time.monotonic(), 0

    async def sending(message: Message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
        headers = MutableHeaders(scope=message)
        headers['x-request-id'] = own
        headers.setdefault('x-content-type-options', 'nosniff')
      await send(message)

    try:
      await self._app(scope, receive, sending)
    except Exception as error:
      log_fault(own, error)
      if not status:
        response = failure('The server failed; its log has the reason.')
        await response.response()(scope, receive, sending)
    finally:
      # Probes come every few seconds, and say nothing.
      often = scope['path'] in PROBES
      logger.log(
        logging.DEBUG if often else logging.INFO,
        '%s %s %s %d %.3f s',
        own,
        scope['method'],
        # As it was sent: escaped, so that no line break can forge a line.
        scope['raw_path'].decode('ascii', 'replace')[:_MOST_PATH],
        status,
        time.monotonic() - begun,
      )


def log_fault(own: str, error: BaseException) -> None:
  """Logs where an error arose, without its message: it may quote a prompt."""
  places = ''.join(traceback.format_tb(error.__traceback__))
  logger.error('%s failed: %s\n%s', own, type(error).__name__, places)


def log_to_stderr() -> None:
  """Shows this package's log on stderr, one line an event."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter('%(asctime)s %(message)s'))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False
