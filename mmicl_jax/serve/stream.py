"""Answers as server-sent events, in the order that OpenAI's clients expect."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from starlette.responses import StreamingResponse

from mmicl_jax.serve.answers import Head
from mmicl_jax.serve.choice_text import CandidateText, ChoiceText
from mmicl_jax.serve.http_errors import HttpError

PING_SECONDS = 15.0
_PING = b': ping\n\n'
_END = b'data: [DONE]\n\n'
_HEADERS = {'cache-control': 'no-cache', 'x-accel-buffering': 'no'}

Json = dict[str, Any]
T = TypeVar('T')


def event_response(events: AsyncIterator[bytes]) -> StreamingResponse:
  """A response of events; it ends when its client leaves."""
  # Not sse-starlette's, which ends streams at SIGTERM.
  return StreamingResponse(
    events, headers=_HEADERS, media_type='text/event-stream'
  )


async def answer_events(
  head: Head,
  texts: Sequence[ChoiceText | CandidateText],
  progress: AsyncIterator[int | None],
  extra: Json,
  log_probs: bool,
  usage: Callable[[], Json],
  include_usage: bool,
) -> AsyncIterator[bytes]:
  """The events of an answer.

  progress: the indices of texts that changed, None when nothing did for some
  time. extra: for the first event. usage: called once at the end; it is an
  event of its own if include_usage. An HttpError of `progress` becomes the last
  event.
  """
  ended: set[int] = set()
  offsets = [0] * len(texts)
  try:
    begin: Json = {'role': 'assistant', 'content': ''}
    first = [head.part(i, begin, None) for i in range(len(texts))]
    yield _event({**head.body(first, chunk=True), **extra})
    async for i in progress:
      if i is None:
        yield _PING
        continue
      text = texts[i]
      new = text.new_text()
      entries = text.new_entries() if log_probs else None
      if new or entries:
        part = head.part(i, {'content': new}, entries, offsets[i])
        offsets[i] += sum(len(entry['token']) for entry in entries or ())
        yield _event(head.body([part], chunk=True))
      if text.reason and i not in ended:
        ended.add(i)
        part = head.part(i, {}, None)
        part |= {
          'finish_reason': text.reason,
          'stop_reason': text.stopped_by,
        }
        yield _event(head.body([part], chunk=True))
    used = usage()
    if include_usage:
      yield _event({**head.body([], chunk=True), 'usage': used})
    yield _END
  except HttpError as error:
    yield _event(error.body())


async def events_after(
  waiting: AsyncIterator[T | None],
  events: Callable[[T], AsyncIterator[bytes]],
) -> AsyncIterator[bytes]:
  """Pings for each None of `waiting`, then the events of what it waited for.

  An HttpError of `waiting` becomes the last event.
  """
  try:
    async for found in waiting:
      if found is None:
        yield _PING
        continue
      async for event in events(found):
        yield event
  except HttpError as error:
    yield _event(error.body())


def _event(body: Json) -> bytes:
  return f'data: {json.dumps(body, ensure_ascii=False)}\n\n'.encode()
