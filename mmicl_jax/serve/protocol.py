"""Reads the bodies of requests: what is asked, in this project's own words.

Every field of reference.py is honoured, refused, or (if it is not there)
ignored and named in the header `x-mmicl-ignored`.
"""

import dataclasses
import json
import secrets
from typing import Any

from mmicl_jax.context.turns import STYLES
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.serve.fields import Fields, body_fields, spoken
from mmicl_jax.serve.http_errors import HttpError, bad_request
from mmicl_jax.serve.messages import (
  IMAGE_FORMATS,
  Conversation,
  read_messages,
  read_raw,
  read_turns,
)
from mmicl_jax.serve.reference import ATTENTION, CHAT, COMPLETIONS, RANK
from mmicl_jax.strict_json import parse_strictly

MOST_CHOICES = MOST_BEAMS = 16
MOST_CANDIDATES, LONGEST_CANDIDATE = 256, 1000
MOST_STOPS, LONGEST_STOP = 4, 64
USUAL_BEAMS = 5
_LARGE = 1e30  # as in decoding/options.py

# What options call the fields of requests.
_PARAMS = {
  'min_new_tokens': 'min_tokens',
  'num_return_sequences': 'n',
  'do_sample': 'temperature',
}


@dataclasses.dataclass(frozen=True)
class Prompting:
  """A prompt, and how it is made; shots: demonstrations to keep, at most."""

  conversation: Conversation
  style: str
  truncate: bool
  shots: int | None
  return_text: bool = False


@dataclasses.dataclass(frozen=True)
class Choosing:
  """A request of chat completions or of completions.

  options: those of the engine. seed: what was given or drawn. choices: n.
  top_logprobs: None if no log-probabilities are wanted. candidates: of
  structured_outputs.
  """

  options: Options
  choices: int
  seed: int
  stops: tuple[str, ...]
  keep_stop: bool
  top_logprobs: int | None
  stream: bool
  include_usage: bool
  candidates: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Inquiry:
  """A whole request. ignored: fields that mean nothing to this server."""

  model: str | None
  prompting: Prompting
  ignored: tuple[str, ...]
  choosing: Choosing | None = None
  candidates: tuple[str, ...] = ()
  reduce: str = 'sum'
  answer: str = ''


def parse_body(data: bytes) -> Any:
  """The JSON of a body; raises HttpError if it is none."""
  try:
    return parse_strictly(data)
  except UnicodeDecodeError as error:
    raise bad_request(f'The body is no UTF-8: {error.reason}.') from error
  except json.JSONDecodeError as error:
    raise bad_request(f'The body is no JSON: {error}.') from error
  except RecursionError as error:
    raise bad_request('The body is nested too deeply.') from error
  except UserError as error:
    raise bad_request(f'The body is no JSON: {error}') from error
  except ValueError as error:
    raise bad_request(
      'The body is no JSON: a number in it has too many digits.'
    ) from error


def read_inquiry(value: Any, body: str, most_tokens: int) -> Inquiry:
  """Reads a parsed body of one of the kinds in reference.py.

  most_tokens: of an answer. Raises HttpError that names the field at fault.
  """
  fields = body_fields(value, body)
  model = fields.get('model')
  if model is not None and not isinstance(model, str):
    raise fields.wrong('model', 'a served name')
  own = Fields(
    fields.get('mmicl') or {},
    'mmicl',
    ('style', 'image_format', 'truncate', 'shots'),
  )
  prompting = Prompting(
    _conversation(fields, own, body),
    own.one_of('style', STYLES),
    own.flag('truncate'),
    own.whole('shots', 0, 1000),
    body in (CHAT, COMPLETIONS) and fields.flag('return_prompt_text'),
  )
  ignored = [
    *fields.ignored,
    *own.ignored,
    *prompting.conversation.ignored,
  ]
  if body == RANK:
    candidates = fields.texts('candidates', MOST_CANDIDATES, LONGEST_CANDIDATE)
    if not candidates:
      raise bad_request(
        "candidates is a list of texts, such as ['yes', 'no'].", 'candidates'
      )
    reduce = fields.one_of('reduce', ('sum', 'mean'))
    return Inquiry(model, prompting, tuple(ignored), None, candidates, reduce)
  if body == ATTENTION:
    answer = fields.get('answer')
    if not isinstance(answer, str) or not 0 < len(answer) <= LONGEST_CANDIDATE:
      wanted = f'a text of 1 to {LONGEST_CANDIDATE} characters'
      raise fields.wrong('answer', wanted)
    answer = spoken(answer, 'answer')
    return Inquiry(model, prompting, tuple(ignored), answer=answer)
  choosing = None
  if body in (CHAT, COMPLETIONS):
    streaming = Fields(
      fields.get('stream_options') or {},
      'stream_options',
      ('include_usage', 'include_obfuscation'),
    )
    ignored += streaming.ignored
    choosing = _choosing(fields, streaming, body, most_tokens)
  return Inquiry(model, prompting, tuple(ignored), choosing)


def _conversation(fields: Fields, own: Fields, body: str) -> Conversation:
  image_format = own.one_of('image_format', IMAGE_FORMATS)
  if body == COMPLETIONS:
    return read_raw(fields.get('prompt'), fields.get('images'))
  if fields.get('turns') is None:
    return read_messages(fields.get('messages'), image_format)
  if fields.get('messages') is not None:
    raise bad_request('Give messages or turns, not both.', 'turns')
  return read_turns(fields.get('turns'))


def _choosing(
  fields: Fields, streaming: Fields, body: str, most_tokens: int
) -> Choosing:
  choices = fields.whole('n', 1, MOST_CHOICES, 1)
  assert choices is not None
  seed = fields.whole('seed', -(2**63), 2**64 - 1)
  if seed is None:
    seed = secrets.randbits(32)  # exact in JavaScript, too
  candidates = _candidates(fields)
  options = _options(fields, body, choices, seed, most_tokens)
  searches = options.num_beams > 1
  stream = fields.flag('stream')
  if stream and searches:
    raise bad_request(
      'Beam search knows its answer only at the end: leave out stream, or the '
      'beams.',
      'stream',
    )
  if choices > 1 and (candidates or not (options.do_sample or searches)):
    raise bad_request(
      f'n is {choices}, and without sampling all answers would be the same: '
      'set temperature or use_beam_search.',
      'n',
    )
  top = _top_logprobs(fields, body)
  if top and searches:
    raise bad_request(
      'The likeliest tokens cannot be told of beams: leave out top_logprobs.',
      'top_logprobs' if body == CHAT else 'logprobs',
    )
  return Choosing(
    options,
    choices,
    seed,
    fields.texts('stop', MOST_STOPS, LONGEST_STOP),
    fields.flag('include_stop_str_in_output'),
    top,
    stream,
    streaming.flag('include_usage'),
    candidates,
  )


def _top_logprobs(fields: Fields, body: str) -> int | None:
  """How many likeliest tokens are wanted; None: no log-probabilities."""
  if body == COMPLETIONS:
    if fields.get('logprobs') is False:
      return None
    return fields.whole('logprobs', 0, 20)
  top = fields.whole('top_logprobs', 0, 20)
  if fields.flag('logprobs'):
    return top or 0
  if top:
    raise bad_request('top_logprobs needs logprobs: true.', 'top_logprobs')
  return None


def _candidates(fields: Fields) -> tuple[str, ...]:
  """The choices of structured_outputs."""
  value = fields.get('structured_outputs')
  if value is None:
    return ()
  given = Fields(value, 'structured_outputs', ('choice',))
  if given.ignored:
    raise bad_request(
      f'{given.ignored[0]} is not supported: give structured_outputs.choice.',
      given.ignored[0],
      'unsupported_parameter',
    )
  found = given.texts('choice', MOST_CANDIDATES, LONGEST_CANDIDATE)
  if not found:
    raise bad_request(
      'structured_outputs.choice is a list of texts.',
      'structured_outputs.choice',
    )
  return found


def _options(
  fields: Fields, body: str, choices: int, seed: int, most_tokens: int
) -> Options:
  temperature = fields.number('temperature', 0.0, _LARGE) or 0.0
  top_k = fields.whole('top_k', -1, 2**31 - 1, 0)
  assert top_k is not None
  top_p = fields.number('top_p', 0.0, 1.0)
  if top_p == 0.0:
    raise fields.wrong('top_p', 'a number above 0, at most 1')
  bound = ", the server's --max-tokens"
  limit, asked = 'max_completion_tokens', None
  if body == CHAT:
    asked = fields.whole(limit, 1, most_tokens, bound=bound)
  if asked is None:
    limit = 'max_tokens'
    asked = fields.whole(limit, 1, most_tokens, bound=bound)
  values: dict[str, Any] = {
    'num_beams': _beams(fields, choices),
    'max_new_tokens': most_tokens if asked is None else asked,
    'min_new_tokens': fields.whole('min_tokens', 0, most_tokens, bound=bound),
    'length_penalty': fields.number('length_penalty', -_LARGE, _LARGE),
    'repetition_penalty': fields.number('repetition_penalty', 0.0, _LARGE),
    'no_repeat_ngram_size': fields.whole('no_repeat_ngram_size', 0, 1024),
    'do_sample': temperature > 0,
    'seed': seed,
  }
  if temperature > 0:
    values |= {
      'temperature': temperature,
      'top_k': max(top_k, 0),
      'top_p': top_p,
    }
  if values['num_beams'] > 1:
    values['num_return_sequences'] = choices
  given = {name: value for name, value in values.items() if value is not None}
  try:
    return Options(**given)
  except UserError as error:
    words = str(error)
    for ours, theirs in {**_PARAMS, 'max_new_tokens': limit}.items():
      words = words.replace(ours, theirs)
    raise bad_request(words, words.split()[0]) from error


def _beams(fields: Fields, choices: int) -> int:
  given = fields.whole('num_beams', 1, MOST_BEAMS)
  if fields.flag('use_beam_search'):
    return given or (choices if choices > 1 else USUAL_BEAMS)
  return given or 1


def check_model(model: str | None, served: tuple[str, ...]) -> str:
  """The served name that is meant; raises HttpError for another one."""
  if model is None:
    return served[0]
  if model not in served:
    raise HttpError(
      404,
      f'There is no model {model[:100]!r}: /v1/models has the names.',
      param='model',
      code='model_not_found',
    )
  return model
