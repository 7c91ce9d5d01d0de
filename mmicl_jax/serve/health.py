"""Whether the server lives, and whether it can answer now."""

import enum
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mmicl_jax.serve.http_errors import SERVER, HttpError


class Health(enum.Enum):
  """What the server can do; only a READY one answers prompts."""

  WARMING = 'warming'
  READY = 'ready'
  DRAINING = 'draining'
  STALLED = 'stalled'
  DEAD = 'dead'


_REFUSALS = {
  Health.WARMING: (
    'warming_up',
    'The model is being loaded and compiled: ask again soon.',
    5,
  ),
  Health.DRAINING: ('draining', 'The server shuts down: ask another one.', 5),
  Health.DEAD: (
    'engine_dead',
    'The thread that runs the model has died: the server must be started anew.',
    60,
  ),
}


def not_ready(health: Health) -> HttpError | None:
  """The HttpError 503 if no prompt can be answered now, otherwise None.

  A stalled server may only be slow: it still takes requests.
  """
  if health not in _REFUSALS:
    return None
  code, message, seconds = _REFUSALS[health]
  # The official client would ask again at once, and hear the same.
  headers = {'x-should-retry': 'false'} if health is Health.DEAD else None
  return HttpError(
    503,
    message,
    kind=SERVER,
    code=code,
    retry_after=seconds,
    headers=headers,
  )


def health_routes(health: Callable[[], Health]) -> list[Route]:
  """/health/live while the process answers; /health, 503 until it is ready."""

  async def live(request: Request) -> Response:
    return JSONResponse({'status': 'live'})

  async def ready(request: Request) -> Response:
    now = health()
    answers = now is Health.READY
    headers = {'cache-control': 'no-store'}
    if not answers:
      headers['retry-after'] = '5'
    return JSONResponse({'status': now.value}, 200 if answers else 503, headers)

  return [
    Route('/health/live', live),
    Route('/health', ready),
    Route('/health/ready', ready),
    Route('/ping', ready, methods=['GET', 'POST']),
  ]
