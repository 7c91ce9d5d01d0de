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
from mmicl_jax.serve.http_errors import HttpError, failure
from mmicl_jax.serve.keys import KeyCheck
from mmicl_jax.serve.logs import RequestLog
from mmicl_jax.serve.page_files import page_routes
from mmicl_jax.serve.settings import Settings

# Headers that a page of another server may read.
_EXPOSED = ('x-request-id', 'x-mmicl-ignored', 'retry-after')


def make_app(settings: Settings, routes: Sequence[BaseRoute]) -> ASGIApp:
  """The application with the page, /version and further routes.

  From the outside in: log, headers, Host, CORS, key, routes.
  """
  middleware = [
    Middleware(HeaderLimit),
    Middleware(HostCheck, settings.allowed_hosts),
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
  middleware.append(Middleware(KeyCheck, settings.api_keys))
  app = Starlette(
    routes=[*routes, Route('/version', _version), *page_routes()],
    middleware=middleware,
    exception_handlers={
      HttpError: _explain,
      HTTPException: _explain_status,
      Exception: _explain_fault,
    },
  )
  app.router.redirect_slashes = False
  return RequestLog(app)


async def _version(request: Request) -> Response:
  return JSONResponse({'version': metadata.version('mmicl_jax')})


async def _explain(request: Request, error: Exception) -> Response:
  assert isinstance(error, HttpError)
  return error.response()


async def _explain_fault(request: Request, error: Exception) -> Response:
  """A bug; starlette raises it again, and the log gets it."""
  return failure('The server failed; its log has the reason.').response()


async def _explain_status(request: Request, error: Exception) -> Response:
  """What the router refuses: unknown paths and methods."""
  assert isinstance(error, HTTPException)
  messages = {
    404: ('There is no such path.', 'not_found'),
    405: ('This path does not take that method.', 'method_not_allowed'),
  }
  message, code = messages.get(error.status_code, (error.detail, None))
  headers = dict(error.headers or {})
  return HttpError(
    error.status_code, message, code=code, headers=headers
  ).response()
