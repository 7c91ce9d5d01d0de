"""How /v1/attention answers: shares of the prompt for each token of an answer.

They are attention, which does not explain an answer by itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.attention import shares_told, turn_ends
from mmicl_jax.inference.attention import Attended
from mmicl_jax.serve import answers
from mmicl_jax.serve.http_errors import bad_request
from mmicl_jax.serve.jobs import AttentionJob, Looked
from mmicl_jax.serve.posted import Posted
from mmicl_jax.serve.preparing import check_fits
from mmicl_jax.serve.protocol import Inquiry
from mmicl_jax.serve.ready_prompt import ReadyPrompt, ready_prompt
from mmicl_jax.serve.service import Service


async def tell_attention(
  service: Service, posted: Posted, wanted: Inquiry
) -> Response:
  """Responds to /v1/attention."""
  ready = await ready_prompt(service, wanted)
  if ready.shortened.lost.words:  # turns would have other tokens
    param = wanted.prompting.conversation.param
    check_fits(ready.shortened, ready.model.predictor, param)
  ids = tuple(ready.model.predictor.tokenizer.encode(wanted.answer))
  try:
    job = AttentionJob(ready.prompt, ids)
  except UserError as error:  # a text of blanks has no tokens
    raise bad_request(str(error), 'answer') from error
  asking = ready.ask(service, posted, job)
  looked = await asking.until(Looked)
  told = await service.in_thread(_told, ready, ids, looked.tokens)
  head = ready.head('attention')
  return JSONResponse(
    {
      'id': head.id,
      'object': 'attention',
      'created': head.created,
      'model': head.model,
      'system_fingerprint': head.fingerprint,
      **told,
      'usage': answers.usage(ready.shortened.tokens, len(ids), asking.cached),
      **ready.about(),
    }
  )


def _told(
  ready: ReadyPrompt, ids: Sequence[int], looked: Sequence[Attended]
) -> dict[str, Any]:
  """The shares of each token and their means."""
  predictor = ready.model.predictor
  ends = turn_ends(
    ready.shortened.example,
    predictor.tokenizer.encode,
    predictor.config.qformer.num_queries,
  )
  decode = predictor.tokenizer.decode
  texts = [decode(ids[:i]) for i in range(len(ids) + 1)]
  prompt, images = (np.stack(x) for x in zip(*looked, strict=True))
  return {
    'answer': texts[-1],
    'tokens': [
      {'token': new[len(old) :], **shares_told(one, ends)}
      for old, new, one in zip(texts, texts[1:], looked, strict=False)
    ],
    'mean': shares_told(Attended(prompt.mean(0), images.mean(0)), ends),
  }
