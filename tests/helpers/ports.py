"""Ports of this machine for servers that a test starts."""

import random
import socket

# Below those that the system gives to whoever asks for any port (Linux: from
# 32768 on): one of those, asked for and closed, may be another's connection
# before the server has started.
_PORTS = range(15000, 32000)


def free() -> int:
  """A port that no server has, chosen by chance so that tests differ."""
  for port in random.SystemRandom().sample(_PORTS, 100):
    with socket.socket() as s:
      try:
        s.bind(('localhost', port))
      except OSError:
        continue
      return port
  raise RuntimeError('no free port was found')
