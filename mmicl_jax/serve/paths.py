"""The paths under /v1, and how /v1/rank and /render answer."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mmicl_jax.data.fitting import prompt_ids
from mmicl_jax.serve import answers
from mmicl_jax.serve.attention import tell_attention
from mmicl_jax.serve.completing import (
  ask_to_rate,
  complete_chat,
  complete_raw,
)
from mmicl_jax.serve.health import not_ready
from mmicl_jax.serve.jobs import Rated
from mmicl_jax.serve.posted import Posted, PostedPath, Respond
from mmicl_jax.serve.preparing import shorten
from mmicl_jax.serve.protocol import Inquiry, check_model
from mmicl_jax.serve.ready_prompt import model_of, ready_prompt
from mmicl_jax.serve.reference import (
  ATTENTION,
  CHAT,
  COMPLETIONS,
  RANK,
  RENDER,
)
from mmicl_jax.serve.service import ServedModel, Service


def prompt_routes(service: Service) -> list[BaseRoute]:
  """The routes of all paths under /v1."""

  def posting(path: str, body: str, respond: Respond) -> Route:
    return Route(path, PostedPath(service, body, respond), methods=['POST'])

  async def models(request: Request) -> Response:
    listed = [_described(service, model) for model in _loaded(service)]
    return JSONResponse({'object': 'list', 'data': listed})

  async def one_model(request: Request) -> Response:
    _loaded(service)
    wanted = check_model(request.path_params['id'], tuple(service.models))
    return JSONResponse(_described(service, service.models[wanted]))

  return [
    Route('/v1/models', models),
    Route('/v1/models/{id:path}', one_model),  # names may have slashes
    posting('/v1/chat/completions', CHAT, complete_chat),
    posting('/v1/chat/completions/render', RENDER, _render),
    posting('/v1/completions', COMPLETIONS, complete_raw),
    posting('/v1/rank', RANK, _rank),
    posting('/v1/attention', ATTENTION, tell_attention),
  ]


def _loaded(service: Service) -> list[ServedModel]:
  """The models, once they are loaded; that they can answer, /health says."""
  error = not_ready(service.health())
  if error is not None and not service.models:
    raise error
  return list(service.models.values())


def _described(service: Service, model: ServedModel) -> dict[str, Any]:
  return {
    'id': model.name,
    'object': 'model',
    'created': model.created,
    'owned_by': 'mmicl_jax',
    'root': model.root,
    'max_model_len': model.predictor.max_input_length,
    'mmicl': {'max_tokens': service.settings.max_tokens},
  }


async def _rank(service: Service, posted: Posted, wanted: Inquiry) -> Response:
  ready = await ready_prompt(service, wanted)
  asking, _ = ask_to_rate(service, posted, ready, wanted.candidates)
  log_probs = (await asking.until(Rated)).log_probs
  ranked = answers.candidate_rows(wanted.candidates, log_probs, wanted.reduce)
  head = ready.head('rank')
  count = sum(candidate['tokens'] for candidate in ranked)
  return JSONResponse(
    {
      'id': head.id,
      'object': 'rank',
      'created': head.created,
      'model': head.model,
      'system_fingerprint': head.fingerprint,
      'reduce': wanted.reduce,
      'best': answers.best_row(ranked)['index'],
      'candidates': ranked,
      'usage': answers.usage(ready.shortened.tokens, count, asking.cached),
      **ready.about(),
    }
  )


async def _render(
  service: Service, posted: Posted, wanted: Inquiry
) -> Response:
  return JSONResponse(await service.in_thread(_rendered, service, wanted))


def _rendered(service: Service, wanted: Inquiry) -> dict:
  """The whole prompt, or what is left of it where truncate is true."""
  model, prompting = model_of(service, wanted), wanted.prompting
  predictor = model.predictor
  places = prompting.conversation.images
  shortened = shorten(predictor, prompting, places)
  text, tokens = shortened.text(predictor), shortened.tokens
  if not prompting.truncate:
    text = prompting.conversation.example(
      places, prompting.style, prompting.shots
    ).inputs
    queries = predictor.config.qformer.num_queries
    tokens = len(prompt_ids(text, predictor.tokenizer, queries)) + 1
  return {
    'object': 'prompt',
    'model': model.name,
    'prompt_text': text,
    'prompt_tokens': tokens,
    'max_model_len': predictor.max_input_length,
    'fits': tokens <= predictor.max_input_length,
    'images': len(shortened.example.images),
    'dropped_demonstrations': shortened.lost.demonstrations,
    'dropped_words': shortened.lost.words,
  }
