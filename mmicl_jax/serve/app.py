"""The ASGI application: routes, and what stands before all of them."""

from collections.abc import Sequence
from importlib import metadata

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from mmicl_jax.serve.header_limit import HeaderLimit
from mmicl_jax.serve.hosts import HostCheck
from mmicl_jax.serve.http_errors import (
  HttpError,
  Reject,
  failure,
  nobody_counts,
)
from mmicl_jax.serve.keys import KeyCheck
from mmicl_jax.serve.logs import RequestLog
from mmicl_jax.serve.page_files import page_routes
from mmicl_jax.serve.settings import Settings

# Headers that a page of another server may read.
_EXPOSED = ('x-request-id', 'x-mmicl-ignored', 'retry-after')


def make_app(
  settings: Settings,
  routes: Sequence[BaseRoute],
  reject: Reject = nobody_counts,
) -> ASGIApp:
  """The application with the page, /version and further routes.

  From the outside in: log, headers, Host, CORS, key, routes. reject: is told
  why a request gets an error in the place of an answer.
  """
  middleware = [
    Middleware(HeaderLimit, reject),
    Middleware(HostCheck, settings.allowed_hosts, reject),
  ]
  if settings.cors_origins:
    middleware.append(
      Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=('GET', 'POST'),
        allow_headers=('*',),
        expose_headers=_EXPOSED,
      )
    )
  middleware.append(Middleware(KeyCheck, settings.api_keys, reject))

  async def explain(request: Request, error: Exception) -> Response:
    found = _explained(error)
    reject(found.reason)
    return found.response()

  app = Starlette(
    routes=[*routes, Route('/version', _version), *page_routes()],
    middleware=middleware,
    # A fault is raised again by starlette, and the log gets it.
    exception_handlers=dict.fromkeys(
      (HttpError, HTTPException, Exception), explain
    ),
  )
  app.router.redirect_slashes = False
  return RequestLog(app)


async def _version(request: Request) -> Response:
  return JSONResponse({'version': metadata.version('mmicl_jax')})


def _explained(error: Exception) -> HttpError:
  """What a client is told: by a path, by the router, or of a bug."""
  if isinstance(error, HttpError):
    return error
  if not isinstance(error, HTTPException):
    return failure('The server failed; its log has the reason.')
  messages = {
    404: ('There is no such path.', 'not_found'),
    405: ('This path does not take that method.', 'method_not_allowed'),
  }
  message, code = messages.get(error.status_code, (error.detail, None))
  headers = dict(error.headers or {})
  return HttpError(error.status_code, message, code=code, headers=headers)
