"""What all paths that take a body do before and after they answer."""

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mmicl_jax.serve.admission import Visit
from mmicl_jax.serve.health import not_ready
from mmicl_jax.serve.http_errors import HttpError
from mmicl_jax.serve.logs import logger
from mmicl_jax.serve.protocol import Inquiry, parse_body, read_inquiry
from mmicl_jax.serve.service import Service

T = TypeVar('T')

# Of the header x-mmicl-ignored.
_HIDDEN = re.compile(r'[^\x21-\x7e]')
_LONGEST_NAME, _MOST_NAMES = 80, 1000  # characters


class Posted:
  """A request on its way through a path.

  id: as logged. ending: runs its callbacks when the response is over, whether
  it was sent or not. begun: when the request came, by time.monotonic.
  """

  def __init__(
    self,
    request: Request,
    entry: Visit,
    ending: contextlib.ExitStack,
    begun: float,
  ):
    self.entry, self.ending, self.begun = entry, ending, begun
    self.id: str = request.scope['mmicl_id']


Respond = Callable[[Service, Posted, Inquiry], Awaitable[Response]]


class PostedPath:
  """An ASGI endpoint: admits a request, reads its body, and lets it respond.

  body: the kind of body in reference.py. A client that leaves ends it all.
  """

  def __init__(self, service: Service, body: str, respond: Respond):
    self._service, self._body, self._respond = service, body, respond

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    try:
      await self._answer(request, send)
    except ClientDisconnect:
      logger.info('%s: the client left', scope['mmicl_id'])

  async def _answer(self, request: Request, send: Send) -> None:
    service, begun = self._service, time.monotonic()
    if (error := not_ready(service.health())) is not None:
      raise error
    kind = request.headers.get('content-type', '').partition(';')[0]
    if kind.strip().lower() != 'application/json':
      raise HttpError(
        415,
        "The body is JSON: send the header 'content-type: application/json'.",
        code='unsupported_media_type',
      )
    with service.admission.entered() as entry, contextlib.ExitStack() as ending:
      settings = service.settings
      body = [
        await entry.read_body(request, settings.max_body, settings.body_timeout)
      ]
      posted = Posted(request, entry, ending, begun)
      response = await _unless_left(request, self._work(posted, body))
      await response(request.scope, request.receive, send)

  async def _work(self, posted: Posted, body: list[bytes]) -> Response:
    service = self._service
    read = functools.partial(
      _read, body, self._body, service.settings.max_tokens
    )
    wanted = await service.in_thread(read)
    if service.settings.log_prompts:
      logger.info('%s asks %r', posted.id, _asked(wanted))
    response = await self._respond(service, posted, wanted)
    if wanted.ignored:
      response.headers['x-mmicl-ignored'] = header_names(wanted.ignored)
    return response


def header_names(names: Iterable[str]) -> str:
  """Names in one header: whole ones, as many as 1000 characters can hold.

  All but visible ASCII is escaped: a line break or a blank at an end is no part
  of a header. A long name is cut.
  """
  found = ''
  for name in names:
    shown = _HIDDEN.sub(_escaped, name[:_LONGEST_NAME])
    shown += '...' * (len(name) > _LONGEST_NAME)
    longer = f'{found}, {shown}' if found else shown
    if len(longer) > _MOST_NAMES:
      break
    found = longer
  return found


def _escaped(character: re.Match) -> str:
  code = ord(character[0])
  if code < 0x100:
    return f'\\x{code:02x}'
  return f'\\u{code:04x}' if code < 0x10000 else f'\\U{code:08x}'


def _read(held: list[bytes], body: str, most_tokens: int) -> Inquiry:
  """Takes the body out of `held`, so that nobody holds it afterwards."""
  return read_inquiry(parse_body(held.pop()), body, most_tokens)


def _asked(wanted: Inquiry) -> list[str | tuple[str, str]]:
  """What a client asks, for a log: demonstrations with their answers."""
  conversation = wanted.prompting.conversation
  if conversation.raw is not None:
    return [conversation.raw]
  return [
    (draft.text, draft.answer) if draft.answer else draft.text
    for draft in conversation.drafts
  ]


async def _unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
  """The result of the work; raises ClientDisconnect once the client left."""
  task = asyncio.create_task(work)
  watcher = asyncio.create_task(_left(request))
  try:
    await asyncio.wait((task, watcher), return_when='FIRST_COMPLETED')
    if not task.done():
      raise ClientDisconnect
    return task.result()
  finally:
    watcher.cancel()
    if not task.done():
      task.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await task


async def _left(request: Request) -> None:
  while (await request.receive())['type'] != 'http.disconnect':
    pass
