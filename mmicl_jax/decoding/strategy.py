"""The interface of a way to choose tokens, and which one options ask for."""

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, Shaped

from mmicl_jax.decoding.beam import BeamSearch
from mmicl_jax.decoding.former_beam import FormerBeamSearch
from mmicl_jax.decoding.options import DynamicOptions, StaticOptions
from mmicl_jax.decoding.sampling import Sampling
from mmicl_jax.decoding.scores import Decoded

State = TypeVar('State')


@runtime_checkable  # so that the tests can check signatures with it
class Strategy(Protocol[State]):
  """Chooses the next token of every row of the decoder, step by step.

  A state is a NamedTuple. It has `cache`, which the model's step reads and
  fills, and `index`, the number of tokens that each row has, with the start
  token.
  """

  @property
  def static(self) -> StaticOptions:
    """The options that the strategy was made for."""
    ...

  def start(
    self,
    valid: Bool[Array, 'B'],
    keys: Shaped[Array, 'B'] | None,
    cache: Any,
  ) -> State:
    """The state before the first new token.

    valid: which examples are not padding; the others are done at once. keys:
    one for each example, for sampling only.
    """
    ...

  def update(
    self,
    state: State,
    logits: Float[Array, 'R V'],
    dynamic: DynamicOptions,
    stops: Int[Array, 'S V'] | None,
  ) -> State:
    """The state after one more token of every row that is not done."""
    ...

  def running(self, state: State, dynamic: DynamicOptions) -> Bool[Array, '']:
    """Whether any row needs one more token."""
    ...

  def last_tokens(self, state: State) -> Int[Array, 'R']:
    """The newest token of each row, which the model reads next."""
    ...

  def finish(self, state: State, dynamic: DynamicOptions) -> Decoded:
    """The answers; sequences that have not ended are cut."""
    ...


def strategy_of(static: StaticOptions) -> Strategy[Any]:
  """Beam search if there are several beams, otherwise greedy or sampling."""
  if static.num_beams == 1:
    return Sampling(static)
  former = static.beam_search == 'transformers4'
  return FormerBeamSearch(static) if former else BeamSearch(static)
