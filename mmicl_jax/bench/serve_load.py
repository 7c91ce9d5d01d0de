"""Clients of a server: what they ask, and how long each waits for an answer."""

import base64
import dataclasses
import http.client
import io
import json
import queue
import threading
import time
from typing import Any

import numpy as np
from PIL import Image

WORDS = 'is it the red dog or a cat in image what yes no and'.split()
DEMONSTRATIONS = 3  # of the kind 'few-shot'
POOL = 8  # demonstrations that all clients take theirs from
PATIENCE = 600  # seconds for one answer


@dataclasses.dataclass(frozen=True)
class ServeCase:
  """So many requests, from so many clients that each ask one at a time.

  kind: 'vqa' (a new image and a question) or 'few-shot' (the same after three
  demonstrations that other requests have, too). Seven answers of ten have 2 to
  20 tokens, the others 15 to 64. turn: of which the images depend, and nothing
  else, so that a run before the timed one compiles what this one needs.
  """

  kind: str
  clients: int
  requests: int
  seed: int = 0
  turn: int = 0

  @property
  def name(self) -> str:
    """The case in words, for the table."""
    return f'{self.kind}, {self.clients} clients'


def bodies(case: ServeCase, size: int) -> list[dict[str, Any]]:
  """The requests of a case; size: of images, in pixels."""
  chance = np.random.default_rng(case.seed)
  pixels = np.random.default_rng((case.seed, case.turn))
  known = np.random.default_rng(99)
  shots = [_turn(known, known, size) for _ in range(POOL)]
  found = []
  for _ in range(case.requests):
    messages = []
    if case.kind == 'few-shot':
      for i in chance.choice(POOL, DEMONSTRATIONS, replace=False):
        messages += [
          {'role': 'user', 'content': shots[i]},
          {'role': 'assistant', 'content': WORDS[i]},
        ]
    messages.append({'role': 'user', 'content': _turn(chance, pixels, size)})
    short = chance.random() < 0.7
    tokens = int(chance.integers(2, 21) if short else chance.integers(15, 65))
    found.append(
      {'messages': messages, 'max_tokens': tokens, 'min_tokens': tokens}
    )
  return found


def ask_all(
  port: int, case: ServeCase, size: int
) -> tuple[float, list[float], list[str]]:
  """Asks a server on loopback: (all seconds, those of each request, answers).

  In the order of the requests, which are made before the time begins. Raises
  what a client met first.
  """
  left: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
  for i, body in enumerate(bodies(case, size)):
    left.put((i, json.dumps(body).encode()))
  seconds, answers = [0.0] * case.requests, [''] * case.requests
  faults: list[Exception] = []

  def client() -> None:
    try:
      connection = http.client.HTTPConnection(
        '127.0.0.1', port, timeout=PATIENCE
      )
      while not faults:
        try:
          i, body = left.get_nowait()
        except queue.Empty:
          return
        begun = time.perf_counter()
        answers[i] = _post(connection, body)
        seconds[i] = time.perf_counter() - begun
    except Exception as error:
      faults.append(error)

  threads = [threading.Thread(target=client) for _ in range(case.clients)]
  begun = time.perf_counter()
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  if faults:
    raise faults[0]
  return time.perf_counter() - begun, seconds, answers


def _post(connection: http.client.HTTPConnection, body: bytes) -> str:
  kind = {'content-type': 'application/json'}
  connection.request('POST', '/v1/chat/completions', body, kind)
  response = connection.getresponse()
  found = json.loads(response.read())
  if response.status != 200:
    raise RuntimeError(f'{response.status}: {found}')
  return found['choices'][0]['message']['content']


def _turn(
  chance: np.random.Generator, pixels: np.random.Generator, size: int
) -> list[dict[str, Any]]:
  """A question about a new image."""
  small = pixels.integers(0, 256, (8, 8, 3)).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(small).resize((size, size)).save(file, 'PNG')
  url = f'data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'
  text = ' '.join(chance.choice(WORDS, chance.integers(2, 6)))
  return [
    {'type': 'image_url', 'image_url': {'url': url}},
    {'type': 'text', 'text': text},
  ]
