"""The one table of the HTTP interface: paths, fields, errors.

protocol.py reads requests by it, and docs/serving.md shows it; a test holds the
document against `reference_markdown`.
"""

import dataclasses
from typing import Any

CHAT, COMPLETIONS, RANK, RENDER = 'chat', 'completions', 'rank', 'render'
ATTENTION = 'attention'
_ASKING = (CHAT, COMPLETIONS)
_PROMPTS = (CHAT, RANK, ATTENTION, RENDER)


@dataclasses.dataclass(frozen=True)
class ServedPath:
  """A path of the server; body: which fields it reads, if it reads any."""

  method: str
  path: str
  meaning: str
  body: str = ''


@dataclasses.dataclass(frozen=True)
class BodyField:
  """A field of a request's body.

  bodies: those that have it. form: its values, for readers. refused: it means
  nothing here, so only the values in `harmless` pass.
  """

  name: str
  bodies: tuple[str, ...]
  form: str
  meaning: str
  refused: bool = False
  harmless: tuple[Any, ...] = ()


PATHS = (
  ServedPath(
    'POST',
    '/v1/chat/completions',
    'answers a conversation; user and assistant turns are demonstrations',
    CHAT,
  ),
  ServedPath('POST', '/v1/completions', 'answers a raw prompt', COMPLETIONS),
  ServedPath('POST', '/v1/rank', 'scores given answers', RANK),
  ServedPath(
    'POST',
    '/v1/attention',
    'where the tokens of a given answer look: attention, not an explanation',
    ATTENTION,
  ),
  ServedPath(
    'POST',
    '/v1/chat/completions/render',
    'the prompt, its tokens, and what would be dropped; no model runs',
    RENDER,
  ),
  ServedPath('GET', '/v1/models', 'the served models'),
  ServedPath('GET', '/v1/models/{id}', 'one of them'),
  ServedPath(
    'GET',
    '/health',
    '200 if prompts can be answered, otherwise 503 with a `status`: warming, '
    'draining, stalled or dead; also /health/ready, and GET or POST /ping',
  ),
  ServedPath('GET', '/health/live', '200 while the process answers'),
  ServedPath('GET', '/version', "this package's version"),
  ServedPath('GET', '/metrics', "Prometheus' text format"),
  ServedPath('GET', '/', 'the page; its files are under /page/'),
)

FIELDS = (
  BodyField(
    'model',
    (*_ASKING, RANK, ATTENTION, RENDER),
    'text',
    'a served name; absent: the first one',
  ),
  BodyField(
    'messages',
    _PROMPTS,
    'list',
    'of `{role, content}`; content is a text or a list of parts `{type: text, '
    'text}` and `{type: image_url, image_url: {url}}`, whose order is kept',
  ),
  BodyField(
    'turns',
    _PROMPTS,
    'list',
    'instead of messages: `{text, images, answer}` as of `mmicl_jax.Turn`, '
    'with its slots; the last one is the query and has no answer',
  ),
  BodyField(
    'prompt',
    (COMPLETIONS,),
    'text',
    'as the encoder reads it, with `<imageK>图` in the place of each image',
  ),
  BodyField(
    'images', (COMPLETIONS,), 'list', 'the URLs of its images, in their order'
  ),
  BodyField(
    'candidates', (RANK,), 'list of 1 to 256 texts', 'the answers to be scored'
  ),
  BodyField(
    'reduce',
    (RANK,),
    'sum, mean',
    'whether a score is the sum (default) or the mean over the tokens of a '
    'candidate',
  ),
  BodyField(
    'answer', (ATTENTION,), 'text', 'the answer whose tokens are looked at'
  ),
  BodyField(
    'max_completion_tokens',
    (CHAT,),
    'whole number',
    "an answer's tokens at most; wins over max_tokens",
  ),
  BodyField(
    'max_tokens', _ASKING, 'whole number', "an answer's tokens at most"
  ),
  BodyField(
    'min_tokens', _ASKING, 'whole number', "an answer's tokens at least"
  ),
  BodyField(
    'temperature',
    _ASKING,
    'number',
    'absent or 0: the likeliest tokens (OpenAI samples by default); above 0: '
    'sampling',
  ),
  BodyField(
    'top_p', _ASKING, 'number above 0, at most 1', 'sample among the likeliest'
  ),
  BodyField(
    'top_k', _ASKING, 'whole number', 'sample among so many; 0 or -1: all'
  ),
  BodyField(
    'n', _ASKING, '1 to 16', 'answers; more than 1 by sampling or beams'
  ),
  BodyField(
    'seed',
    _ASKING,
    'whole number',
    'of sampling; choice i is row i of the seed. Without one, one is drawn; '
    '`mmicl.seed` of the answer has it',
  ),
  BodyField(
    'stop',
    _ASKING,
    'text, or at most 4',
    'ends an answer; the text is left out of it. At most 64 characters each',
  ),
  BodyField(
    'include_stop_str_in_output', _ASKING, 'true, false', 'keep that text'
  ),
  BodyField(
    'logprobs',
    _ASKING,
    'true, false; of completions: false, or 0 to 20',
    'log-probabilities of the tokens',
  ),
  BodyField(
    'top_logprobs', (CHAT,), '0 to 20', 'the likeliest tokens beside each'
  ),
  BodyField(
    'stream',
    _ASKING,
    'true, false',
    'events with the text as it comes; not with beams',
  ),
  BodyField(
    'stream_options',
    _ASKING,
    '`{include_usage}`',
    'a last event with the usage',
  ),
  BodyField(
    'use_beam_search',
    _ASKING,
    'true, false',
    'beam search, with num_beams beams, or n, or 5',
  ),
  BodyField('num_beams', _ASKING, '1 to 16', 'beams; more than 1: beam search'),
  BodyField(
    'length_penalty',
    _ASKING,
    'number',
    "beams' scores are divided by the length to this power",
  ),
  BodyField(
    'repetition_penalty', _ASKING, 'number above 0', 'above 1: say less again'
  ),
  BodyField(
    'no_repeat_ngram_size',
    _ASKING,
    'whole number',
    'never say so many tokens in a row twice',
  ),
  BodyField(
    'structured_outputs',
    _ASKING,
    '`{choice: [texts]}`',
    'the answer is the likeliest of these; `mmicl.candidates` has all',
  ),
  BodyField(
    'return_prompt_text',
    _ASKING,
    'true, false',
    'return what the encoder reads as `prompt_text`',
  ),
  BodyField(
    'mmicl',
    (*_ASKING, RANK, ATTENTION, RENDER),
    'object',
    '`style`: plain (default) or chat; `image_format`: auto (default), declare '
    'or inline; `truncate`: true drops what does not fit; `shots`: keep only '
    'the last so many demonstrations',
  ),
  BodyField('tools', _ASKING, '', '', True, ([],)),
  BodyField('tool_choice', _ASKING, '', '', True, ('none', 'auto')),
  BodyField('functions', _ASKING, '', '', True, ([],)),
  BodyField('function_call', _ASKING, '', '', True, ('none', 'auto')),
  BodyField('response_format', _ASKING, '', '', True, ({'type': 'text'},)),
  BodyField('logit_bias', _ASKING, '', '', True, ({},)),
  BodyField('presence_penalty', _ASKING, '', '', True, (0,)),
  BodyField('frequency_penalty', _ASKING, '', '', True, (0,)),
  BodyField('prompt_logprobs', _ASKING, '', '', True, (0, False)),
  BodyField('echo', _ASKING, '', '', True, (False,)),
  BodyField('suffix', _ASKING, '', '', True, ('',)),
  BodyField('best_of', _ASKING, '', '', True, (1,)),
)

# (status, type, code, when)
ERRORS = (
  ('400', 'invalid_request_error', '', 'a field is wrong; `param` names it'),
  (
    '400',
    'invalid_request_error',
    'context_length_exceeded',
    'the prompt does not fit, and `mmicl.truncate` is not true',
  ),
  (
    '400',
    'invalid_request_error',
    'unsupported_parameter',
    'a field that means nothing here is not at its default',
  ),
  (
    '400',
    'invalid_request_error',
    'invalid_image',
    'an image is damaged, too large, or of a kind that is not read',
  ),
  ('400', 'invalid_request_error', 'too_many_images', 'more than 20'),
  ('400', 'invalid_request_error', 'invalid_host', 'an unknown header Host'),
  ('401', 'invalid_request_error', 'invalid_api_key', 'no key, or a wrong one'),
  ('404', 'invalid_request_error', 'model_not_found', 'not a served name'),
  ('404', 'invalid_request_error', 'not_found', 'no such path'),
  ('405', 'invalid_request_error', 'method_not_allowed', 'another method'),
  ('408', 'invalid_request_error', 'body_timeout', 'the body came too slowly'),
  ('413', 'invalid_request_error', 'body_too_large', 'above --max-body'),
  (
    '415',
    'invalid_request_error',
    'unsupported_media_type',
    'the body is not `application/json`',
  ),
  (
    '422',
    'invalid_request_error',
    'image_fetch_failed',
    'the server of an image refused it, or could not be reached',
  ),
  ('429', 'rate_limit_error', 'overloaded', 'too many requests; `Retry-After`'),
  ('500', 'server_error', 'out_of_memory', 'too little memory for this one'),
  ('500', 'server_error', 'internal_error', 'a fault of the server'),
  ('503', 'server_error', 'warming_up', 'the model is not ready yet'),
  ('503', 'server_error', 'draining', 'the server shuts down'),
  ('503', 'server_error', 'engine_dead', 'the server must be started anew'),
  ('504', 'server_error', 'timeout', 'it waited --request-timeout seconds'),
)


def fields_of(body: str) -> dict[str, BodyField]:
  """The fields that a kind of body may have, by name."""
  return {field.name: field for field in FIELDS if body in field.bodies}


def reference_markdown() -> str:
  """The tables in Markdown, as docs/serving.md has them."""
  lines = ['| path | what it does |', '| --- | --- |']
  lines += [f'| `{p.method} {p.path}` | {p.meaning} |' for p in PATHS]
  lines += [
    '',
    '| field | of | values | meaning |',
    '| --- | --- | --- | --- |',
  ]
  lines += [
    f'| `{f.name}` | {", ".join(f.bodies)} | {f.form} | {f.meaning} |'
    for f in FIELDS
    if not f.refused
  ]
  refused = ', '.join(f'`{f.name}`' for f in FIELDS if f.refused)
  lines += [
    '',
    f'Refused with `unsupported_parameter` unless at default: {refused}.',
    '',
    '| status | type | code | when |',
    '| --- | --- | --- | --- |',
  ]
  lines += [
    f'| {status} | {kind} | {code or "null"} | {when} |'
    for status, kind, code, when in ERRORS
  ]
  return '\n'.join(lines) + '\n'
