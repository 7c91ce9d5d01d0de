"""Many clients of one server: every answer is that of a Predictor alone.

  python tests/load.py --clients 64 --seconds 60

Runs `mmicl serve` with a tiny model. Each client asks one request after the
other, with 0 to 8 images, greedy, sampled, by beams or for a ranking, and goes
away before some answers. At the end the server gets SIGTERM while they ask on:
what is under way is answered, what waits gets 503, and the exit status is 0.
"""

import argparse
import base64
import collections
import dataclasses
import http.client
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parent / 'helpers'))
import tiny_dir  # noqa: E402

import mmicl_jax as mmicl  # noqa: E402
from mmicl_jax.decoding.options import Options  # noqa: E402

KINDS = ('greedy', 'samples', 'beams', 'rank')
CANDIDATES = ['yes', 'no', 'a red dog', 'a cat', 'it is']
TOKENS = 12  # of an answer at most
BEAMS = 3
STARTING = 600  # seconds that the server may take until it is ready


@dataclasses.dataclass(frozen=True)
class Asked:
  """A request, and what must be in its answer: texts, or scores."""

  path: str
  body: bytes
  texts: tuple[str, ...] = ()
  scores: tuple[float, ...] = ()

  def check(self, found: dict[str, Any]) -> None:
    if self.scores:
      by_text = {c['text']: c['logprob'] for c in found['candidates']}
      got = [by_text[text] for text in CANDIDATES]
      np.testing.assert_allclose(got, self.scores, atol=2e-5)
    else:
      choices = sorted(found['choices'], key=lambda choice: choice['index'])
      texts = tuple(choice['message']['content'] for choice in choices)
      assert texts == self.texts


def make_requests(
  directory: Path, length: int, count: int, images: int, seed: int
) -> list[Asked]:
  """Requests of all kinds, with the answers that a Predictor gives alone."""
  predictor = mmicl.load(directory, max_input_length=length)
  chance = random.Random(seed)
  return [
    _request(predictor, KINDS[i % len(KINDS)], i % (images + 1), chance)
    for i in range(count)
  ]


def _request(
  predictor: mmicl.Predictor, kind: str, images: int, chance: random.Random
) -> Asked:
  """A query with up to two images after demonstrations with one each."""
  files = [_png(chance.randrange(40)) for _ in range(images)]
  own = min(images, 1 + chance.randrange(2))
  shots = [
    mmicl.Turn('image {0} is {image} a dog', [file], chance.choice(CANDIDATES))
    for file in files[own:]
  ]
  text = ' '.join(
    chance.choice(['is it', 'the red dog', 'a cat', 'what'])
    for _ in range(chance.randrange(1, 8))
  )
  text += ''.join(f' {{image}} is image {{{i}}}' for i in range(own))
  query = mmicl.Turn(text, files[:own])
  body: dict[str, Any] = {
    'turns': [
      {
        'text': turn.text,
        'images': [
          f'data:image/png;base64,{base64.b64encode(file).decode()}'
          for file in turn.images
        ],
        'answer': turn.answer,
      }
      for turn in (*shots, query)
    ]
  }
  if kind == 'rank':
    [scores] = predictor.score(query, CANDIDATES, shots)
    body['candidates'] = CANDIDATES
    data = json.dumps(body).encode()
    return Asked('/v1/rank', data, scores=tuple(scores.tolist()))
  tokens = chance.randrange(1, TOKENS + 1)
  prompt = predictor.prompt(query, shots)
  body['max_tokens'] = tokens
  if kind == 'greedy':
    answers = predictor.answers([prompt], Options(max_new_tokens=tokens))
  elif kind == 'samples':
    seed = chance.randrange(2**40)
    body |= {'temperature': 1.3, 'top_k': 20, 'seed': seed, 'n': 2}
    options = Options(
      max_new_tokens=tokens,
      do_sample=True,
      temperature=1.3,
      top_k=20,
      seed=seed,
    )
    rows = np.arange(2, dtype=np.uint32)
    answers = predictor.answers([prompt] * 2, options, rows)
  else:
    body |= {'use_beam_search': True, 'num_beams': BEAMS, 'n': 2}
    options = Options(
      max_new_tokens=tokens, num_beams=BEAMS, num_return_sequences=2
    )
    [best] = predictor.answers([prompt], options)
    answers = [best, *best.others]
  texts = tuple(answer.text for answer in answers)
  return Asked('/v1/chat/completions', json.dumps(body).encode(), texts)


def _png(number: int) -> bytes:
  pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3))
  file = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(file, 'PNG')
  return file.getvalue()


class Server:
  """`mmicl serve` in a process of its own, ready to be asked."""

  def __init__(self, directory: Path, length: int):
    command = [sys.executable, '-m', 'mmicl_jax', 'serve', '--port', '0']
    command += ['--checkpoint', str(directory), '--max-tokens', str(TOKENS)]
    command += ['--max-input-length', str(length), '--max-queue', '1000']
    command += ['--beams', str(BEAMS)]
    self.log = directory / 'log'
    with open(self.log, 'wb') as log:
      self.process = subprocess.Popen(command, stderr=log)
    address = self._until(
      lambda: re.search(r'listening on http://\S+:(\d+)', self.text)
    )
    self.port = int(address[1])
    self._until(lambda: self.ask('GET', '/health')[0] == 200)

  @property
  def text(self) -> str:
    return self.log.read_text()

  @property
  def resident(self) -> int:
    """Bytes of memory."""
    status = Path(f'/proc/{self.process.pid}/status').read_text()
    found = re.search(r'VmRSS:\s+(\d+)', status)
    assert found
    return int(found[1]) << 10

  def ask(self, method: str, path: str, body: bytes | None = None):
    """(status, JSON) of one request."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=300)
    try:
      kind = {'content-type': 'application/json'}
      connection.request(method, path, body, kind)
      response = connection.getresponse()
      return response.status, json.loads(response.read())
    finally:
      connection.close()

  def leave(self, path: str, body: bytes) -> None:
    """Asks, and goes away without waiting for the answer."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=300)
    connection.request('POST', path, body, {'content-type': 'application/json'})
    connection.close()

  def _until(self, found: Any) -> Any:
    end = time.monotonic() + STARTING
    while not (value := found()):
      assert self.process.poll() is None, self.text
      assert time.monotonic() < end, self.text
      time.sleep(0.05)
    return value


def run(
  directory: Path,
  clients: int,
  seconds: float,
  different: int,
  images: int = 8,
  seed: int = 0,
) -> collections.Counter[str]:
  """Asks for so long; returns how many requests had which end.

  different: requests that clients choose from. images: of a prompt at most.
  Raises AssertionError for an answer that is not the Predictor's, for an error
  that should not be, and for a server that does not end as it should.
  """
  tiny_dir.make(directory)
  length = 96 if images <= 3 else 256
  requests = make_requests(directory, length, different, images, seed)
  server = Server(directory, length)
  ends: collections.Counter[str] = collections.Counter()
  faults: list[BaseException] = []
  ending, lock = threading.Event(), threading.Lock()
  answered = threading.Semaphore(0)

  def note(end: str) -> None:
    with lock:
      ends[end] += 1

  def client(number: int) -> None:
    chance = random.Random(1000 * seed + number)
    try:
      while not faults:
        asked = chance.choice(requests)
        if chance.random() < 0.05 and not ending.is_set():
          server.leave(asked.path, asked.body)
          note('left')
          continue
        try:
          status, found = server.ask('POST', asked.path, asked.body)
        except (ConnectionError, http.client.HTTPException):
          assert ending.is_set(), 'a connection ended before the server did'
          return
        if status == 200:
          asked.check(found)
          note('answered')
          answered.release()
        else:
          assert ending.is_set() and status == 503, (status, found)
          note('refused')
          return
    except BaseException as error:
      faults.append(error)

  threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
  try:
    for thread in threads:
      thread.start()
    memory = []
    for _ in range(3):
      time.sleep(seconds / 3)
      memory.append(server.resident)
    while not faults and not answered.acquire(timeout=1):
      pass  # at least one answer, however slow the machine is
    ending.set()
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(120)
    for thread in threads:
      thread.join()
  finally:
    server.process.kill()
  if faults:
    raise faults[0]
  assert status == 0, server.text[-2000:]
  if seconds >= 30:  # programs and caches have grown by the first third
    assert memory[-1] < 1.1 * memory[0], memory
  print(f'{[size >> 20 for size in memory]} MiB', file=sys.stderr)
  return ends


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--clients', type=int, default=64)
  parser.add_argument('--seconds', type=float, default=60)
  parser.add_argument('--different', type=int, default=72)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  with tempfile.TemporaryDirectory() as folder:
    ends = run(
      Path(folder), args.clients, args.seconds, args.different, seed=args.seed
    )
  print(dict(ends))


if __name__ == '__main__':
  main()
