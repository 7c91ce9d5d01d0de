"""Stop strings as a table that a compiled loop can follow token by token."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stop_table(
  tokens: Sequence[str], stops: Sequence[str], vocabulary: int
) -> Int[np.ndarray, 'S V']:
  """table[state, token] is the next state, or -1 where a stop string ends.

  The stop strings are looked for in the text that an answer is shown with,
  which has no blank at its very start. In state 0 there is no text yet; each
  other state says how much of a stop string the text so far ends with. It is
  the Aho-Corasick automaton of the stop strings, run over whole tokens. A stop
  string may end inside a token, as in transformers.

  tokens: the text of each id inside an answer; ids beyond it, up to
  `vocabulary`, have none.
  """
  prefixes = sorted({s[:i] for s in stops for i in range(len(s))}, key=len)
  number = {prefix: i for i, prefix in enumerate(prefixes, 1)}
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

  def reached(prefix: str, text: str) -> int:
    """The state behind a token's text."""
    state: str | None = prefix
    for character in text:
      if (state := after(state, character)) is None:
        return -1
    return number[state]

  characters = set(''.join(stops))
  table = np.full((len(prefixes) + 1, vocabulary), number[''], np.int32)
  for token in range(vocabulary):
    text = tokens[token] if token < len(tokens) else ''
    if not text:  # special tokens leave the text as it is
      table[:, token] = np.arange(len(table))
    elif not characters.isdisjoint(text):
      table[0, token] = reached('', text.removeprefix(' '))
      for prefix in prefixes:
        table[number[prefix], token] = reached(prefix, text)
  return table
