"""A trained model that answers prompts: what `mmicl_jax.load` returns.

A Turn becomes an Example (context), a Request (features), tokens (engine) and
an Answer (tokenizer).
"""

import dataclasses
import functools
import hashlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt32

from mmicl_jax.checkpoints.fingerprint import weights_digest
from mmicl_jax.context.turns import Example, Turn, assemble, listed
from mmicl_jax.data.feature_store import key_of
from mmicl_jax.data.features import feature_spec, instruction_ids
from mmicl_jax.data.fitting import Truncation, fit_prompt
from mmicl_jax.data.images import load_image
from mmicl_jax.decoding import stops as stopping
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.candidates import candidate_lists
from mmicl_jax.inference.engine import Engine, PromptAnswers, check_size
from mmicl_jax.inference.prompts import Request, requests_of
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.quantized import is_quantized
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.types import check_batch

Query = Turn | Example | str

_NOT_DECODED = (
  'encoder_features',
  'encoder_image_starts',
  'encoder_segment_ids',
)


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
  """The best answer to one prompt.

  others: the next best ones, if they were asked for. score: the sum of the
  tokens' log-probabilities divided by the number of tokens ** length_penalty.
  tokens and log_probs include the end token.
  """

  text: str
  tokens: tuple[int, ...]
  score: float
  log_probs: tuple[float, ...]
  others: tuple['Answer', ...] = ()


class Predictor:
  """Answers prompts with any number of images, in batches of few shapes.

  engine: the model. tokenizer: without one only `logits` and `decode` work.
  max_input_length: a prompt's tokens, with those of images; longer prompts lose
  demonstrations, then text, with a warning. qformer_tokenizer: with it an
  InstructBLIP Q-Former reads the prompt's text with each image; without it the
  images alone, as in all published scripts. source: the model's name in
  messages. weights: a digest of the weights, if one was saved. Raises UserError
  if the vocabulary is not the model's.
  """

  def __init__(
    self,
    engine: Engine,
    tokenizer: Tokenizer | None = None,
    *,
    max_input_length: int = 1024,
    qformer_tokenizer: BertTokenizer | None = None,
    source: str = 'the model',
    weights: str | None = None,
  ):
    check_size('max_input_length', max_input_length)
    self.engine = engine
    self.config: MMICLConfig = engine.config
    self._tokenizer = tokenizer
    self._source = source
    self._weights = weights
    self._qformer_tokenizer = qformer_tokenizer
    # An Example may have more images than there are names.
    self._spec = feature_spec(self.config, max_input_length, 2, sys.maxsize)
    self._texts: list[str] | None = None
    if tokenizer and tokenizer.image_id != self.config.image_token:
      raise UserError(
        f'{source}: the vocabulary has its image token at {tokenizer.image_id} '
        f'and the model at {self.config.image_token}; put the spiece.model '
        'there that the model was trained with.'
      )

  @functools.cached_property
  def digest(self) -> str:
    """A hash of all that answers depend on besides prompt and options."""
    # T5X's and PyTorch's checkpoints have no checksums: the weights in memory
    # are hashed.
    weights = self._weights or weights_digest(self.engine.params)
    words = self._qformer_tokenizer
    parts = (
      weights,
      self.config.execution.dtype,
      'int8' if is_quantized(self.engine.params) else '',
      self.tokenizer.digest,
      '' if words is None else words.digest,
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()

  @property
  def max_input_length(self) -> int:
    """The most tokens of a prompt, with those of its images."""
    return self._spec.inputs_length

  @property
  def longest_instruction(self) -> int:
    """The most tokens that the Q-Former reads with an image; 0 if none."""
    return self.config.qformer.max_positions if self._qformer_tokenizer else 0

  @property
  def tokenizer(self) -> Tokenizer:
    """The vocabulary; raises UserError if the model was loaded without one."""
    if self._tokenizer is None:
      raise UserError(
        f'{self._source} has no spiece.model, so it knows arrays only: put the '
        'vocabulary there, or use logits and decode.'
      )
    return self._tokenizer

  def generate(
    self,
    queries: Query | Sequence[Query],
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
    **options: Any,
  ) -> list[Answer]:
    """Answers queries, in their order; a single query is a list of one.

    shots: demonstrations before every Turn or text. style: see
    `context.turns.assemble`. options: fields of `options.Options`, such as
    num_beams, max_new_tokens and do_sample. Raises UserError for a query,
    image or option that cannot be used.
    """
    prompts = [self.prompt(q, shots, style=style) for q in listed(queries)]
    return self.answers(prompts, Options(**options))

  def answers(
    self,
    prompts: Sequence[Request],
    options: Options,
    rows: UInt32[np.ndarray, 'B'] | None = None,
  ) -> list[Answer]:
    """Answers prepared prompts: see `generate`.

    rows: a number for each prompt, which its samples depend on; by default it
    is made from the prompt's content.
    """
    stops = self._stops(options)
    results = self.engine.generate(prompts, options, stops, rows)
    return [self._answer(result) for result in results]

  def stream(
    self,
    query: Query,
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
    **options: Any,
  ) -> Iterator[str]:
    """Yields the answer's text so far, every few tokens.

    The arguments are those of `generate`. Raises UserError for beam search and
    for several answers.
    """
    chosen = Options(**options)
    if chosen.num_beams > 1 or chosen.num_return_sequences > 1:
      raise UserError(
        'beam search knows its answer only at the end: stream with num_beams 1.'
      )
    prompt = self.prompt(query, shots, style=style)
    for tokens in self.engine.stream(prompt, chosen, self._stops(chosen)):
      yield self.tokenizer.decode(tokens.tolist())

  def score(
    self,
    queries: Query | Sequence[Query],
    candidates: str | Sequence[str] | Sequence[Sequence[str]],
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
    reduce: str = 'sum',
  ) -> Float[np.ndarray, 'B C']:
    """The log-probability of each candidate as the answer, with its end token.

    candidates: those of all queries, or a list for each query; rows with fewer
    are filled with -inf. reduce: 'sum' or 'mean' over a candidate's tokens. A
    prompt is encoded once for all its candidates.
    """
    if not isinstance(reduce, str) or reduce not in ('sum', 'mean'):
      raise UserError(f"reduce is {reduce!r}: give 'sum' or 'mean'.")
    over = np.sum if reduce == 'sum' else np.mean
    tokens = self.token_scores(queries, candidates, shots, style=style)
    width = max(map(len, tokens), default=0)
    scores = np.full((len(tokens), width), -np.inf, np.float32)
    for row, own in zip(scores, tokens, strict=True):
      row[: len(own)] = [over(candidate) for candidate in own]
    return scores

  def token_scores(
    self,
    queries: Query | Sequence[Query],
    candidates: str | Sequence[str] | Sequence[Sequence[str]],
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
  ) -> list[list[Float[np.ndarray, 'U']]]:
    """The log-probabilities of each candidate's tokens; the end is the last."""
    queries = listed(queries)
    lists = candidate_lists(candidates, len(queries))
    prompts = [self.prompt(q, shots, style=style) for q in queries]
    end = self.tokenizer.eos_id
    known: dict[str, list[int]] = {}
    for text in {text for own in lists for text in own}:
      known[text] = [*self.tokenizer.encode(text), end]
    return self.engine.score(
      prompts, [[known[t] for t in own] for own in lists]
    )

  def logits(self, batch: Mapping[str, Any]) -> Float[jax.Array, 'B U V']:
    """The float32 logits of a Batch, as training computes them.

    Raises UserError for a batch of another form.
    """
    check_batch(batch, 'encoder_input_tokens', 'decoder_input_tokens')
    return self.engine.logits(batch)

  def decode(
    self, batch: Mapping[str, Any], **options: Any
  ) -> tuple[Int[np.ndarray, 'B K U'], Float[np.ndarray, 'B K']]:
    """Answers a Batch's prompts; returns (tokens, scores), the best first.

    K is num_return_sequences, by default num_beams; U is max_new_tokens. Only
    the encoder's part of the batch is read. Stop strings need a vocabulary.
    """
    check_batch(batch, 'encoder_input_tokens')
    for name in _NOT_DECODED:
      if name in batch:
        raise UserError(
          f'decode cannot read {name}: give one prompt a row, with its own '
          'encoder_images.'
        )
    options.setdefault('num_return_sequences', options.get('num_beams', 1))
    chosen = Options(**options)
    results = self.engine.generate(
      requests_of(
        batch, self.config.qformer.num_queries, self.config.image_token
      ),
      chosen,
      self._stops(chosen),
    )
    tokens = np.zeros(
      (len(results), chosen.num_return_sequences, chosen.max_new_tokens),
      np.int32,
    )
    scores = np.zeros(tokens.shape[:2], np.float32)
    for i, result in enumerate(results):
      tokens[i], scores[i] = result.tokens, result.scores
    return tokens, scores

  def prompt(
    self,
    query: Query,
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
  ) -> Request:
    """Turns a query into arrays; raises UserError if it cannot be read."""
    return self.fitted(query, shots, style=style)[1]

  def fitted(
    self,
    query: Query,
    shots: Turn | Sequence[Turn] = (),
    *,
    style: str = 'plain',
  ) -> tuple[Truncation, Request]:
    """As prompt, and what the prompt lost because it was too long."""
    if isinstance(query, str):
      query = Turn(query)
    if isinstance(query, Turn):
      query = assemble(query, shots, style=style)
    elif not isinstance(query, Example):
      raise UserError(
        f'a query is a {type(query).__name__}: give a text, a Turn or an '
        'Example.'
      )
    elif listed(shots):
      raise UserError(
        'demonstrations cannot be put in front of an Example: give a Turn.'
      )
    fitted, ids, lost = self.shortened(query)
    if lost:
      warnings.warn(str(lost), stacklevel=2)
    try:
      return lost, self.request(fitted, ids)
    except UserError as error:
      raise UserError(f'{lost.name}: {error}') from error

  def shortened(
    self, example: Example
  ) -> tuple[Example, list[int], Truncation]:
    """What is left of a prompt that may be too long; reads no image.

    Returns what `data.fitting.fit_prompt` does, and raises the same.
    """
    return fit_prompt(example, self.tokenizer, self._spec)

  def request(self, example: Example, ids: Sequence[int]) -> Request:
    """The arrays of a prompt that `shortened` gave; reads its images.

    Raises UserError if an image cannot be read.
    """
    words = None
    if self._qformer_tokenizer is not None:
      length = self.config.qformer.max_positions
      words = np.array(
        instruction_ids(ids, self.tokenizer, self._qformer_tokenizer, length),
        np.int32,
      )
    images, keys = [], []
    for source in example.images:
      keys.append(key_of(source, words))
      images.append(load_image(source, self.config.vit.image_size))
    tokens = np.array([*ids, self.tokenizer.eos_id], np.int32)
    return Request(tokens, tuple(images), words, tuple(keys))

  def warm_up(self, longest: int | None = None, **options: Any) -> int:
    """Compiles what `generate` with these options needs: see Engine.warm_up.

    longest: a prompt's tokens at most; by default max_input_length.
    """
    chosen = Options(**options)
    if longest is None:
      longest = self.max_input_length
    check_size('longest', longest)
    return self.engine.warm_up(
      chosen,
      longest,
      self._stops(chosen),
      self.longest_instruction,
    )

  def _stops(self, options: Options) -> Int[np.ndarray, 'S V'] | None:
    if not options.stop:
      return None
    if self._texts is None:
      self._texts = token_texts(self.tokenizer)
    size = self.config.t5.vocab_size
    return stopping.stop_table(self._texts, options.stop, size)

  def _answer(self, result: PromptAnswers) -> Answer:
    answers = []
    for k, length in enumerate(result.lengths):
      tokens = tuple(result.tokens[k, :length].tolist())
      answers.append(
        Answer(
          self.tokenizer.decode(tokens),
          tokens,
          float(result.scores[k]),
          tuple(result.log_probs[k, :length].tolist()),
        )
      )
    return dataclasses.replace(answers[0], others=tuple(answers[1:]))


def token_texts(tokenizer: Tokenizer) -> list[str]:
  """The text of each id inside an answer; '' for special tokens."""
  # Decoding drops a space at the start; of two equal ids, the second keeps it.
  twice = (tokenizer.decode([i, i]) for i in range(tokenizer.vocab_size))
  return [text[len(text) // 2 :] for text in twice]
