"""A tiny model behind the real server on loopback, and its Predictor."""

import base64
import contextlib
import dataclasses
import io
import threading
import types

import http_running
import numpy as np
import openai
import tiny_dir
from PIL import Image

from mmicl_jax.inference.load import load
from mmicl_jax.serve.jobs import (
  Counts,
  Draining,
  Failed,
  Finished,
  NewTokens,
  Started,
)
from mmicl_jax.serve.run import service_app
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.service import ServedModel, Service
from mmicl_jax.serve.settings import Settings
from mmicl_jax.serve.shapes import PoolShape

LENGTH, TOKENS = 64, 8  # of prompts and answers, at most


@dataclasses.dataclass
class Served:
  """port: of the server. service: its inside. predictor: the same model."""

  port: int
  service: Service
  predictor: object
  server: object

  @property
  def client(self):
    return openai.OpenAI(
      base_url=f'http://127.0.0.1:{self.port}/v1', api_key='x', max_retries=0
    )

  def ask(self, method, path, body=None, **headers):
    return http_running.ask(self.port, method, path, body, **headers)

  def post(self, path, body, **headers):
    return self.ask('POST', path, body, **headers)


def tiny_predictor(folder):
  tiny_dir.make(folder)
  return load(folder, max_input_length=LENGTH)


@contextlib.contextmanager
def serving(predictor, scheduler=None, name='tiny', **settings):
  """Runs a server of the predictor; name: what clients call it."""
  settings = {'max_tokens': TOKENS, **settings}
  service = Service(Settings(**settings))
  if scheduler is None:
    scheduler = small_scheduler(predictor)
    scheduler.start()
    http_running.eventually(lambda: scheduler.status() == 'ready', 300)
  model = ServedModel(name, 'tiny', predictor, 1)
  service.open({name: model}, scheduler)
  app = service_app(service)
  with http_running.running(
    app, service.drain, lambda: service.is_idle
  ) as server:
    try:
      yield Served(server.port, service, predictor, server)
    finally:
      scheduler.drain(0)
  service.close()


class Scripted(Scheduler):
  """A scheduler that runs nothing: a test says what comes of each job.

  jobs: (job, listener, the choices that were cancelled; None: all) of each.
  """

  def __init__(self, max_queue=100):
    self.max_queue, self.state = max_queue, 'ready'
    self.jobs, self.refuse = [], None

  def status(self):
    return self.state

  def counts(self, model=None):
    return Counts()

  def submit(self, model, job, listener, deadline=None):
    if self.refuse is not None:
      raise self.refuse
    cancelled = []
    self.jobs.append((job, listener, cancelled))
    return types.SimpleNamespace(
      cancel=lambda choice=None: cancelled.append(choice)
    )

  def drain(self, timeout=None, coming=None):
    self.state = 'draining'
    for _, listener, cancelled in self.jobs:
      if not cancelled:
        listener(Failed(Draining()))
    return True

  def wait_for(self, count):
    """The newest job, once there are so many."""
    http_running.eventually(lambda: len(self.jobs) >= count)
    return self.jobs[count - 1]


def answer(listener, tokens, reason='stop'):
  """Tells the whole answer of a job with one choice."""
  listener(Started(False))
  listener(NewTokens(0, tuple(tokens), (-0.5,) * len(tokens)))
  listener(Finished(0, -0.5, reason))


def small_scheduler(predictor, **settings):
  return Scheduler(
    {'tiny': predictor},
    pools=[PoolShape(LENGTH, 4, 2)],
    max_new_tokens=TOKENS,
    candidate_lengths=(8,),
    **settings,
  )


def picture(seed, size=8, kind='PNG'):
  """The bytes of a file with random pixels."""
  pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3))
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
  return file.getvalue()


def url_of(data, kind='png'):
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def image(seed):
  """An image part of a message."""
  return {'type': 'image_url', 'image_url': {'url': url_of(picture(seed))}}


def words(text):
  return {'type': 'text', 'text': text}


def user(*parts):
  return {'role': 'user', 'content': list(parts)}


def assistant(text):
  return {'role': 'assistant', 'content': text}


class Asked(threading.Thread):
  """Asks in a thread; `answer()` waits for what came."""

  def __init__(self, found, path, body):
    super().__init__(daemon=True)
    self._run = lambda: found.post(path, body)
    self.start()

  def run(self):
    self.found = self._run()

  def answer(self):
    self.join(60)
    return self.found
