"""Stop strings as a table that a compiled loop can follow token by token."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stop_table(
  tokens: Sequence[str], stops: Sequence[str], vocabulary: int
) -> Int[np.ndarray, 'S V']:
  """table[state, token] is the next state, or -1 where a stop string ends.

  A state says how much of a stop string the text so far ends with; in state 0
  that is nothing. The table is the Aho-Corasick automaton of the stop strings,
  run over whole tokens. A stop string may end inside a token, as in
  transformers.

  tokens: the text of each id; ids beyond it, up to `vocabulary`, have none.
  """
  prefixes = sorted({s[:i] for s in stops for i in range(len(s))}, key=len)
  number = {prefix: i for i, prefix in enumerate(prefixes)}
  following: dict[tuple[str, str], str | None] = {}

  def after(prefix: str, character: str) -> str | None:
    """The longest prefix that the text then ends with; None: a stop."""
    key = prefix, character
    if key not in following:
      text = prefix + character
      suffixes = [text[i:] for i in range(len(text) + 1)]
      ended = any(suffix in stops for suffix in suffixes)
      known = next(suffix for suffix in suffixes if suffix in number)
      following[key] = None if ended else known
    return following[key]

  characters = set(''.join(stops))
  table = np.zeros((len(prefixes), vocabulary), np.int32)
  for token, text in enumerate(tokens[:vocabulary]):
    if not text:  # special tokens leave the text as it is
      table[:, token] = np.arange(len(prefixes))
    elif characters.isdisjoint(text):
      continue
    else:
      for state, prefix in enumerate(prefixes):
        reached: str | None = prefix
        for character in text:
          reached = after(reached, character)
          if reached is None:
            break
        table[state, token] = -1 if reached is None else number[reached]
  return table
