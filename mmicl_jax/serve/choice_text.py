"""The text of one answer as its tokens come, up to a stop string."""

from collections.abc import Sequence
from typing import Any

from mmicl_jax.serve.jobs import NewTokens
from mmicl_jax.tokenizer import Tokenizer

LEAST = -9999.0  # for impossible tokens: JSON has no infinity


class ChoiceText:
  """Turns tokens into text, finds stop strings, and says what is new.

  Text is shown once no stop string can begin in it any more. reason:
  'stop' or 'length' at the end, '' before. stopped_by: the stop string.
  """

  def __init__(
    self, tokenizer: Tokenizer, stops: Sequence[str] = (), keep: bool = False
  ):
    self._tokenizer, self._stops, self._keep = tokenizer, stops, keep
    self._tokens: list[int] = []
    self._log_probs: list[float] = []
    self._top: list[tuple[tuple[int, float], ...]] = []
    self._ends: list[int] = []  # where each token's text ends
    self._text = ''
    self._shown = self._entries = 0
    self.reason = ''
    self.stopped_by: str | None = None

  @property
  def count(self) -> int:
    """How many tokens were made, the end token included."""
    return len(self._tokens)

  def add(self, event: NewTokens) -> None:
    """Takes tokens; `reason` is 'stop' afterwards if they hold a stop."""
    if self.reason:
      return
    tops = event.top or ((),) * len(event.tokens)
    for token, log_prob, top in zip(
      event.tokens, event.log_probs, tops, strict=True
    ):
      self._tokens.append(token)
      self._log_probs.append(log_prob)
      self._top.append(top)
      self._text = self._tokenizer.decode(self._tokens)
      self._ends.append(len(self._text))
      if self._look_for_stops():
        return

  def finish(self, reason: str) -> None:
    """No token will come."""
    self.reason = self.reason or reason

  def new_text(self) -> str:
    """What can be shown and was not returned by an earlier call."""
    end = self._visible()
    found = self._text[self._shown : end]
    self._shown = max(end, self._shown)
    return found

  def new_entries(self) -> list[dict[str, Any]]:
    """Log-probabilities of the tokens that can be shown, those that are new.

    Their texts joined are the text: the end token and what a stop string cut
    off have none.
    """
    end, found = self._visible(), []
    while self._entries < len(self._ends):
      i = self._entries
      start = self._ends[i - 1] if i else 0
      if not self.reason and self._ends[i] > end:
        break
      self._entries += 1
      if text := self._text[start : min(self._ends[i], end)]:
        entry = token_entry(text, self._log_probs[i])
        entry['top_logprobs'] = [
          token_entry(self._piece(token, start == 0), log_prob)
          for token, log_prob in self._top[i]
        ]
        found.append(entry)
    return found

  def _look_for_stops(self) -> bool:
    """Ends the text at the first stop string in it."""
    places = [(self._text.find(s), s) for s in self._stops if s in self._text]
    if not places:
      return False
    place, self.stopped_by = min(places)
    self._text = self._text[: place + self._keep * len(self.stopped_by)]
    self.reason = 'stop'
    return True

  def _visible(self) -> int:
    """Where the text ends that no stop string can still change."""
    if self.reason:
      return len(self._text)
    held = 0
    for stop in self._stops:
      for size in range(min(len(stop) - 1, len(self._text)), held, -1):
        if self._text.endswith(stop[:size]):
          held = size
          break
    return len(self._text) - held

  def _piece(self, token: int, first: bool) -> str:
    """A token's text; the blank before the first word is not part of it."""
    # Decoding drops a blank at the start: of two equal tokens, the second one
    # keeps it.
    twice = self._tokenizer.decode([token, token], skip_special_tokens=False)
    text = twice[len(twice) // 2 :]
    return text.removeprefix(' ') if first else text


def token_entry(text: str, log_prob: float) -> dict[str, Any]:
  """A token as OpenAI's `logprobs` shows it."""
  return {
    'token': text,
    'logprob': max(log_prob, LEAST),
    'bytes': list(text.encode()),
  }


class CandidateText:
  """A given text as an answer, with the log-probabilities of its tokens."""

  reason, stopped_by = 'stop', None

  def __init__(
    self,
    text: str,
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    log_probs: Sequence[float],
  ):
    self._text, self.count = text, len(tokens)
    own = ChoiceText(tokenizer)
    own.add(NewTokens(0, tuple(tokens), tuple(log_probs)))
    own.finish('stop')
    self._entries = own.new_entries()
    if own.new_text() != text:  # pieces do not keep every character
      whole = token_entry(text, sum(log_probs))
      self._entries = [{**whole, 'top_logprobs': []}]

  def new_text(self) -> str:
    """The text, at the first call."""
    found, self._text = self._text, ''
    return found

  def new_entries(self) -> list[dict[str, Any]]:
    """Its tokens, or one entry if their texts are not the text."""
    found, self._entries = self._entries, []
    return found
