"""A prompt that is ready for its model, and what answers say of it."""

import dataclasses
import time
import uuid
from typing import Any

from mmicl_jax.inference.prompts import Request
from mmicl_jax.serve import media
from mmicl_jax.serve.answers import Head
from mmicl_jax.serve.asking import Asking
from mmicl_jax.serve.jobs import Job
from mmicl_jax.serve.posted import Posted
from mmicl_jax.serve.preparing import Shortened, prepare
from mmicl_jax.serve.protocol import Inquiry, check_model
from mmicl_jax.serve.service import ServedModel, Service


@dataclasses.dataclass(frozen=True, eq=False)
class ReadyPrompt:
  """A request's model and prompt. deadline: of the queue, as of its arrival."""

  wanted: Inquiry
  model: ServedModel
  shortened: Shortened
  prompt: Request
  deadline: float

  def head(self, kind: str) -> Head:
    """What an answer begins with; kind: chatcmpl, cmpl or rank."""
    return Head(
      f'{kind}-{uuid.uuid4().hex}',
      int(time.time()),
      self.model.name,
      self.model.predictor.digest,
      chat=kind == 'chatcmpl',
    )

  def about(self, **more: Any) -> dict[str, Any]:
    """Fields of an answer that are this project's own."""
    lost = self.shortened.lost
    own = {
      **more,
      'dropped_demonstrations': lost.demonstrations,
      'images': len(self.shortened.example.images),
    }
    if lost.words:
      own['dropped_words'] = lost.words
    found: dict[str, Any] = {'mmicl': own}
    if self.wanted.prompting.return_text:
      found['prompt_text'] = self.shortened.text(self.model.predictor)
    return found

  def ask(self, service: Service, posted: Posted, job: Job) -> Asking:
    """Submits a job, which ends with the response at the latest."""
    posted.entry.drop_body()  # of which nothing is held any more
    asking = Asking(
      service.scheduler,
      service.metrics,
      self.model,
      job,
      self.deadline,
      posted.begun,
    )
    posted.ending.callback(asking.cancel)

    def measure() -> None:
      service.metrics.observe(
        'e2e_request_latency_seconds',
        self.model.name,
        time.monotonic() - posted.begun,
      )

    posted.ending.callback(measure)
    return asking


def model_of(service: Service, wanted: Inquiry) -> ServedModel:
  """The model that is meant; raises HttpError 404."""
  return service.models[check_model(wanted.model, tuple(service.models))]


async def ready_prompt(service: Service, wanted: Inquiry) -> ReadyPrompt:
  """Reads the images and makes the prompt; raises HttpError."""
  deadline = service.deadline()
  model, settings = model_of(service, wanted), service.settings
  files: list[bytes] = []
  for place in wanted.prompting.conversation.images:
    if media.is_address(place):
      files.append(await service.fetch(place.url, place.param))
    else:
      files.append(
        await service.in_thread(media.held_bytes, place, settings.max_image)
      )
      place.url = ''  # the request is kept until its end, and these are large
  begun = time.monotonic()
  shortened, prompt = await service.in_thread(
    prepare,
    model.predictor,
    wanted.prompting,
    files,
    service.room,
    settings.max_pixels,
  )
  name, metrics = model.name, service.metrics
  metrics.observe('image_decode_seconds', name, time.monotonic() - begun)
  metrics.observe('request_prompt_tokens', name, shortened.tokens)
  lost = shortened.lost.demonstrations
  metrics.count('dropped_demonstrations', name, lost)
  return ReadyPrompt(wanted, model, shortened, prompt, deadline)
