"""What clients are told when a request fails, in the form of OpenAI's."""

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse

from mmicl_jax.serve.surrogates import clean

INVALID = 'invalid_request_error'
OVERLOADED = 'rate_limit_error'
SERVER = 'server_error'


Reject = Callable[[str], object]  # is told why a request gets an error


class HttpError(Exception):
  """A request that gets an error instead of an answer.

  Its texts may quote what the client sent.

  status: of HTTP. kind, code: the error's `type` and `code`. param: the field
  at fault, such as messages[2].content[0]. retry_after: seconds after which the
  client may ask again. headers: further ones of the response.
  """

  def __init__(
    self,
    status: int,
    message: str,
    *,
    kind: str = INVALID,
    code: str | None = None,
    param: str | None = None,
    retry_after: int | None = None,
    headers: dict[str, str] | None = None,
  ):
    super().__init__(message)
    self.status, self.message = status, message
    self.kind, self.code, self.param = kind, code, param
    self.headers = dict(headers or {})
    if retry_after is not None:
      self.headers['retry-after'] = str(retry_after)

  def body(self) -> dict[str, Any]:
    """The error as every path and every stream sends it: always UTF-8."""
    return {
      'error': {
        'message': clean(self.message),
        'type': self.kind,
        'param': self.param and clean(self.param),
        'code': self.code,
      }
    }

  @property
  def reason(self) -> str:
    """Its code, or its status if it has none."""
    return self.code or str(self.status)

  def response(self) -> JSONResponse:
    """The error as a response of its own."""
    return JSONResponse(self.body(), self.status, self.headers)


def nobody_counts(reason: str) -> None:
  """A Reject of an application without metrics."""


def bad_request(
  message: str, param: str | None = None, code: str | None = None
) -> HttpError:
  """A HttpError with the status 400."""
  return HttpError(400, message, param=param, code=code)


def failure(message: str) -> HttpError:
  """A HttpError for what went wrong inside the server."""
  return HttpError(500, message, kind=SERVER, code='internal_error')
