"""A tiny model behind the server's engine, and clients that note its events."""

import dataclasses
import functools
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

import mmicl_jax as mmicl
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.serve.jobs import Failed, Finished, NewTokens, Rated
from mmicl_jax.serve.shapes import PoolShape
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

TEXTS = ['image 0 is the red dog. what is it? yes no a cat', 'dog and cat'] * 9
IMAGES = [np.full((20, 30, 3), 40 * i, np.uint8) for i in range(6)]
SHAPES = (PoolShape(16, 4, 2), PoolShape(48, 2, 1))
SETTINGS = {'pools': SHAPES, 'max_new_tokens': 8, 'candidate_lengths': (4,)}
PATIENCE = 90  # seconds after which a test fails that waits


@functools.cache
def parts():
  """(tokenizer, configuration, parameters) of one layer a tower."""
  with tempfile.TemporaryDirectory() as folder:
    vocabulary = Path(folder) / 'spiece.model'
    train_sentencepiece(TEXTS, vocabulary, 50)
    tokenizer = Tokenizer(vocabulary)
  tiny = configs.TINY
  config = dataclasses.replace(
    tiny,
    vit=dataclasses.replace(tiny.vit, num_layers=1),
    qformer=dataclasses.replace(
      tiny.qformer, num_layers=1, instruction=False, vocab_size=128
    ),
    t5=dataclasses.replace(
      tiny.t5,
      num_encoder_layers=1,
      num_decoder_layers=1,
      vocab_size=tokenizer.vocab_size + 5,
    ),
    image_token=tokenizer.image_id,
  )
  params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
  kernel = np.array(params['t5']['lm_head']['kernel']) * 3  # varied answers
  kernel[:, 1] *= 1.5  # of which some end early
  params['t5']['lm_head']['kernel'] = kernel
  return tokenizer, config, params


def predictor() -> Predictor:
  """One of its own, whose caches are empty."""
  tokenizer, config, params = parts()
  return Predictor(Engine(config, params), tokenizer, max_input_length=48)


class Client:
  """A listener; `over` is set at the job's last event.

  act: called with the client and each event, on the engine's thread.
  """

  def __init__(self, choices=1, act=None):
    self.events, self.over = [], threading.Event()
    self.ticket = None
    self._left, self._act = choices, act
    self._known = threading.Event()

  def submit(self, scheduler, job, **settings):
    self.ticket = scheduler.submit('tiny', job, self, **settings)
    self._known.set()
    return self

  def __call__(self, event):
    assert threading.current_thread().name == 'mmicl-engine'
    assert not self.over.is_set(), f'{event} comes after the end'
    self._known.wait(PATIENCE)  # the ticket may come after the first event
    self.events.append(event)
    self._left -= isinstance(event, Finished)
    if self._act is not None:
      self._act(self, event)
    if isinstance(event, Rated | Failed) or not self._left:
      self.over.set()

  def result(self):
    """The last event, once it is there."""
    assert self.over.wait(PATIENCE), self.events
    return self.events[-1]

  def tokens(self, choice=0):
    """(tokens, log-probabilities) of a choice so far."""
    own = [
      e for e in self.events if isinstance(e, NewTokens) and e.choice == choice
    ]
    return (
      tuple(t for e in own for t in e.tokens),
      tuple(p for e in own for p in e.log_probs),
    )


class Gate:
  """An `act` that holds the engine's thread at a client's first event."""

  def __init__(self):
    self._here, self._open = threading.Event(), threading.Event()

  def __call__(self, client, event):
    if not self._open.is_set():
      self._here.set()
      assert self._open.wait(PATIENCE)

  def reached(self):
    assert self._here.wait(PATIENCE)
    return self

  def open(self):
    self._open.set()


def until(condition):
  """Waits for something that another thread will do."""
  end = time.monotonic() + PATIENCE
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.005)


def turn(text, *images, answer=''):
  return mmicl.Turn(text, list(images), answer)
