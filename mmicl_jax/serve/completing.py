"""Answers chat completions and completions, or chooses among candidates."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from mmicl_jax.serve import answers, stream
from mmicl_jax.serve.asking import Asking
from mmicl_jax.serve.choice_text import CandidateText, ChoiceText
from mmicl_jax.serve.jobs import AnswerJob, RankJob, Rated
from mmicl_jax.serve.posted import Posted
from mmicl_jax.serve.protocol import Choosing, Inquiry
from mmicl_jax.serve.ready_prompt import ReadyPrompt, ready_prompt
from mmicl_jax.serve.service import Service

Texts = Sequence[ChoiceText | CandidateText]


async def complete_chat(
  service: Service, posted: Posted, wanted: Inquiry
) -> Response:
  """Responds to /v1/chat/completions."""
  return await _complete(service, posted, wanted, 'chatcmpl')


async def complete_raw(
  service: Service, posted: Posted, wanted: Inquiry
) -> Response:
  """Responds to /v1/completions."""
  return await _complete(service, posted, wanted, 'cmpl')


def ask_to_rate(
  service: Service,
  posted: Posted,
  ready: ReadyPrompt,
  candidates: Sequence[str],
) -> tuple[Asking, list[list[int]]]:
  """Has candidates ranked: (the job, which ends with Rated, their ids)."""
  tokenizer = ready.model.predictor.tokenizer
  ids = [[*tokenizer.encode(text), tokenizer.eos_id] for text in candidates]
  job = RankJob(ready.prompt, tuple(map(tuple, ids)))
  return ready.ask(service, posted, job), ids


async def _complete(
  service: Service, posted: Posted, wanted: Inquiry, kind: str
) -> Response:
  asked = wanted.choosing
  assert asked is not None
  posted.entry.take_places(asked.choices - 1)
  ready = await ready_prompt(service, wanted)
  if asked.candidates:
    return await _choose(service, posted, ready, asked, kind)
  searches = asked.options.num_beams > 1
  rows = range(1 if searches else asked.choices)
  job = AnswerJob(
    ready.prompt, asked.options, tuple(rows), asked.top_logprobs or 0
  )
  asking = ready.ask(service, posted, job)
  texts = [
    ChoiceText(ready.model.predictor.tokenizer, asked.stops, asked.keep_stop)
    for _ in range(asked.choices)
  ]
  # A failure that comes at once has a status of its own, in a stream, too.
  first = await asking.next_event(stream.PING_SECONDS if asked.stream else None)
  progress = asking.progress(
    texts, stream.PING_SECONDS if asked.stream else None, first
  )
  about = ready.about(seed=asked.seed)
  reply = _Reply(service, ready, asked, texts, asking, about)
  return await reply.response(kind, progress)


async def _choose(
  service: Service,
  posted: Posted,
  ready: ReadyPrompt,
  asked: Choosing,
  kind: str,
) -> Response:
  """Of structured_outputs: the likeliest candidate is the answer."""
  asking, ids = ask_to_rate(service, posted, ready, asked.candidates)

  def reply_of(rated: Rated) -> _Reply:
    ranked = answers.candidate_rows(asked.candidates, rated.log_probs, 'sum')
    best = answers.best_row(ranked)['index']
    text = CandidateText(
      asked.candidates[best],
      ready.model.predictor.tokenizer,
      ids[best],
      rated.log_probs[best].tolist(),
    )
    about = ready.about(seed=asked.seed, candidates=ranked)
    return _Reply(service, ready, asked, [text], asking, about)

  if not asked.stream:
    reply = reply_of(await asking.until(Rated))
    return await reply.response(kind, _once())
  ping = stream.PING_SECONDS
  # A failure that comes at once has a status of its own.
  waiting = asking.waiting(Rated, ping, await asking.next_event(ping))
  return stream.event_response(
    stream.events_after(
      waiting, lambda rated: reply_of(rated).events(kind, _once())
    )
  )


async def _once() -> AsyncIterator[int | None]:
  yield 0


class _Reply:
  """All that a response is made of, streamed or not."""

  def __init__(
    self,
    service: Service,
    ready: ReadyPrompt,
    asked: Choosing,
    texts: Texts,
    asking: Asking,
    about: dict[str, Any],
  ):
    self._service, self._ready, self._asked = service, ready, asked
    self._texts, self._asking, self._about = texts, asking, about

  def events(
    self, kind: str, progress: AsyncIterator[int | None]
  ) -> AsyncIterator[bytes]:
    """The response's events, if it is a stream."""
    return stream.answer_events(
      self._ready.head(kind),
      self._texts,
      progress,
      self._about,
      self._asked.top_logprobs is not None,
      self._usage,
      self._asked.include_usage,
    )

  async def response(
    self, kind: str, progress: AsyncIterator[int | None]
  ) -> Response:
    if self._asked.stream:
      return stream.event_response(self.events(kind, progress))
    head = self._ready.head(kind)
    with_log_probs = self._asked.top_logprobs is not None
    async for _ in progress:
      pass
    choices = []
    for i, text in enumerate(self._texts):
      entries = text.new_entries() if with_log_probs else None
      choices.append(
        head.choice(i, text.new_text(), entries, text.reason, text.stopped_by)
      )
    usage = self._usage()
    return JSONResponse({**head.body(choices), 'usage': usage, **self._about})

  def _usage(self) -> dict[str, Any]:
    """The usage, once all texts have ended; counts it, too."""
    made = sum(text.count for text in self._texts)
    name, metrics = self._ready.model.name, self._service.metrics
    metrics.observe('request_generation_tokens', name, made)
    metrics.observe('request_params_n', name, self._asked.choices)
    metrics.count('generation_tokens', name, made)
    for text in self._texts:
      metrics.count('request_success', name, 1, text.reason)
    return answers.usage(
      self._ready.shortened.tokens, made, self._asking.cached
    )
