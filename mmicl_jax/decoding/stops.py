"""Turns stop strings into a table that a compiled loop follows by tokens."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def stop_table(
  tokens: Sequence[str], stops: Sequence[str], vocabulary: int
) -> Int[np.ndarray, 'S V']:
  """Builds table[state, token]: the next state, or -1 if a stop string ended.

  It looks for stop strings in the text of an answer as it is shown, which does
  not begin with a space. State 0 means that there is no text yet; each other
  state says with which part of a stop string the text ends. This is the
  Aho-Corasick automaton of the stop strings, run over whole tokens. As in
  transformers, a stop string may end inside a token.

  tokens: the text of each id inside an answer. vocabulary: the number of ids;
  those beyond `tokens` have no text.
  """
  prefixes = sorted({s[:i] for s in stops for i in range(len(s))}, key=len)
  number = {prefix: i for i, prefix in enumerate(prefixes, 1)}
  following: dict[tuple[str, str], str | None] = {}

  def after(prefix: str, character: str) -> str | None:
    """The longest prefix that ends the text then; None at a stop string."""
    key = prefix, character
    if key not in following:
      text = prefix + character
      suffixes = [text[i:] for i in range(len(text) + 1)]
      ended = any(suffix in stops for suffix in suffixes)
      known = next(suffix for suffix in suffixes if suffix in number)
      following[key] = None if ended else known
    return following[key]

  def reached(prefix: str, text: str) -> int:
    """The state after the text of a token."""
    state: str | None = prefix
    for character in text:
      if (state := after(state, character)) is None:
        return -1
    return number[state]

  characters = set(''.join(stops))
  table = np.full((len(prefixes) + 1, vocabulary), number[''], np.int32)
  for token in range(vocabulary):
    text = tokens[token] if token < len(tokens) else ''
    if not text:  # special tokens add no text
      table[:, token] = np.arange(len(table))
    elif not characters.isdisjoint(text):
      table[0, token] = reached('', text.removeprefix(' '))
      for prefix in prefixes:
        table[number[prefix], token] = reached(prefix, text)
  return table
