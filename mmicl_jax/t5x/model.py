"""MMICL as a model that T5X can train, evaluate and infer with.

T5X needs a model's methods, not a base class. So this class needs T5X only for
its optimizer wrapper, and SeqIO only for its converter and vocabulary. It
computes what train_step computes: the initialisation, loss, dropout keys,
optimizer chain and checkpoint tree are the same.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict, freeze, unfreeze
from flax.linen.partitioning import AxisMetadata
from jaxtyping import Array, Float, Int

from mmicl_jax.decoding import loop
from mmicl_jax.errors import UserError
from mmicl_jax.models import mmicl, trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.t5x import decoding as t5x_decoding
from mmicl_jax.training import optim, stages
from mmicl_jax.training.step import Params, token_sums
from mmicl_jax.types import EOS, PAD, Batch

Metrics = dict[str, Any]  # of clu.metrics.Average
Variables = FrozenDict | dict[str, Any]


class T5XModel:
  """The model of a stage, with the methods that T5X calls.

  trainable, optimizer, learning_rate, num_microbatches, loss_mean and
  frozen_dtype are explained in training/settings.py. T5X shows the loss only
  one microbatch, so loss_mean 'tokens' needs num_microbatches=1. decode_fn:
  ours, or one of t5x.decoding. num_decodes: how many answers it finds for each
  row. Raises UserError for settings that cannot work.
  """

  def __init__(
    self,
    config: MMICLConfig,
    vocabulary: str,
    *,
    trainable: stages.Profile = 'all',
    optimizer: Callable[..., optax.GradientTransformation] = optim.adamw,
    learning_rate: optax.Schedule | None = None,
    num_microbatches: int = 1,
    loss_mean: str = 'tokens',
    frozen_dtype: str | None = None,
    qformer_vocabulary: str | None = None,
    decode_fn: Callable[..., Any] = t5x_decoding.decode_fn,
    num_decodes: int = 1,
  ):
    if loss_mean == 'tokens' and num_microbatches > 1:
      raise UserError(
        "T5X shows a loss one microbatch at a time, so LOSS_MEAN='tokens' "
        f'cannot hold over NUM_MICROBATCHES={num_microbatches}: set '
        "LOSS_MEAN='microbatch', or train with `mmicl train`"
      )
    self.config = config
    self.profile = trainable
    self.learning_rate = learning_rate or optim.constant(0.0)
    self.chain = optimizer(self.learning_rate)
    self.module = mmicl.MMICL(config)
    self._vocabulary = vocabulary
    self.num_microbatches, self.loss_mean = num_microbatches, loss_mean
    self._frozen_dtype = frozen_dtype
    self._text = qformer_vocabulary is not None
    self._decode_fn, self._num_decodes = decode_fn, num_decodes
    self._frozen = stages.split_params(
      mmicl.abstract_params(config), trainable
    )[1]

  @property
  def FEATURE_CONVERTER_CLS(self) -> type:  # noqa: N802
    """The class of the converter that makes this model's batches."""
    from mmicl_jax.t5x import converters

    if self._text:
      return converters.InstructionFeatureConverter
    return converters.FeatureConverter

  @functools.cached_property
  def input_vocabulary(self) -> Any:
    """The SeqIO vocabulary of prompts and answers."""
    from mmicl_jax.t5x import vocabulary

    return vocabulary.Vocabulary(self._vocabulary)

  @property
  def output_vocabulary(self) -> Any:
    """The same as input_vocabulary."""
    return self.input_vocabulary

  def ledger(self) -> stages.Ledger:
    """Which modules train, with their parameters and memory."""
    params = jax.eval_shape(self._init, jax.random.PRNGKey(0))
    return stages.ledger_of(params, self.profile, self.chain)

  @functools.cached_property
  def optimizer_def(self) -> Any:
    """`transformation` in T5X's wrapper."""
    from t5x import optimizers

    return optimizers.OptaxWrapper(self.transformation)

  @property
  def transformation(self) -> optax.GradientTransformation:
    """The optimizer's chain for the trainable half; the other has no state."""
    frozen = set(trees.flatten(self._frozen))

    def labels(params: Variables) -> Variables:
      flat = trees.flatten(unfreeze(params))
      tree = trees.unflatten(
        {path: 'frozen' if path in frozen else 'train' for path in flat}
      )
      return freeze(tree) if isinstance(params, FrozenDict) else tree

    return optax.multi_transform(
      {'train': self.chain, 'frozen': optax.set_to_zero()}, labels
    )

  def get_initial_variables(
    self,
    rng: jax.Array,
    input_shapes: Mapping[str, tuple[int, ...]],
    input_types: Mapping[str, Any] | None = None,
  ) -> FrozenDict:
    """Random parameters, and `params_axes`: the logical names of their axes.

    input_shapes are only checked, since no parameter depends on them. Raises
    UserError for images of another size than the model's.
    """
    del input_types
    self._check(input_shapes)
    axes = params_axes(self.config)
    return freeze({'params': self._init(rng), 'params_axes': axes})

  def _init(self, rng: jax.Array) -> dict[str, Any]:
    params = mmicl.init_params(self.config, rng)
    if self._frozen_dtype is None:
      return params
    trainable, frozen = stages.split_params(params, self.profile)
    dtype = jnp.dtype(self._frozen_dtype)
    frozen = jax.tree.map(lambda x: x.astype(dtype), frozen)
    return stages.merge_params(trainable, frozen)

  def loss_fn(
    self, params: Variables, batch: Batch, dropout_rng: Any
  ) -> tuple[Float[Array, ''], Metrics]:
    """A microbatch's share of the loss, and metrics of its target tokens."""
    trainable, frozen = stages.split_params(unfreeze(params), self.profile)
    merged = stages.merge_params(trainable, jax.lax.stop_gradient(frozen))
    key = dropout_rng if self.config.has_dropout else None
    sums = token_sums(self._apply, merged, batch, key)
    loss = sums['loss'] / (
      jnp.maximum(sums['tokens'], 1) * self.num_microbatches
    )
    return loss, _metrics(sums)

  def eval_fn(
    self, params: Variables, batch: Batch
  ) -> tuple[Float[Array, ''], Metrics]:
    """The mean loss over target tokens without dropout, and metrics."""
    sums = token_sums(self._apply, unfreeze(params), batch)
    return sums['loss'] / jnp.maximum(sums['tokens'], 1), _metrics(sums)

  def predict_batch(
    self,
    params: Variables,
    batch: Batch,
    rng: jax.Array | None = None,
    **options: Any,
  ) -> Int[Array, 'B U']:
    """The tokens of each row's best answer."""
    return self.predict_batch_with_aux(params, batch, rng, **options)[0]

  def predict_batch_with_aux(
    self,
    params: Variables,
    batch: Batch,
    rng: jax.Array | None = None,
    num_decodes: int | None = None,
    return_all_decodes: bool = False,
    **options: Any,
  ) -> tuple[Int[Array, 'B U'] | Int[Array, 'B K U'], dict[str, Any]]:
    """Returns (tokens, {'scores': the scores that decode_fn gives}).

    They are those of each row's best answer or, with return_all_decodes, of all
    its answers, the best last.
    """
    params = unfreeze(params)
    prompt = self._prompt(params, batch)
    targets = batch['decoder_input_tokens']
    empty = self.module.apply(
      {'params': params}, *targets.shape, method='empty_cache'
    )
    leaves, structure = jax.tree.flatten(_own(empty))
    step = loop.model_step(self.module, params, prompt)

    def tokens_to_logits(state: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
      # T5X's sampling has a position for each row; all are the same.
      position = jnp.max(state.cur_index)
      own = structure.unflatten([state.cache[f'{i}'] for i in range(n)])
      logits, own = step(state.cur_token, own, position)
      return logits, _named(jax.tree.leaves(own))

    n = len(leaves)
    decodes, scores = self._decode_fn(
      inputs=jnp.zeros_like(targets),
      cache=_named(leaves),
      tokens_to_logits=tokens_to_logits,
      eos_id=EOS,
      num_decodes=num_decodes or self._num_decodes,
      decode_rng=rng,
      cache_offset=1 if self.config.execution.scan_layers else 0,
      **options,
    )
    if return_all_decodes:
      return decodes, {'scores': scores}
    return decodes[:, -1], {'scores': scores[:, -1]}

  def score_batch(self, params: Variables, batch: Batch) -> Float[Array, 'B']:
    """The log-likelihood of each row's target tokens."""
    params = unfreeze(params)
    found = loop.log_probs(
      self.module,
      params,
      self._prompt(params, batch),
      batch['decoder_target_tokens'],
    )
    return jnp.sum(found * batch['decoder_loss_weights'], axis=-1)

  def _prompt(self, params: Params, batch: Any) -> loop.Memory:
    variables = {'params': params}
    encoded: Any = self.module.apply(variables, batch, method='encode')
    is_token = batch['encoder_input_tokens'] != PAD
    return loop.prefill(self.module, params, encoded, is_token)

  def _apply(self, params: Params, batch: Any, rng: Any) -> jax.Array:
    # T5X's partitioner sets the mesh and the axis rules around the step.
    rngs = {} if rng is None else {'dropout': rng}
    logits: Any = self.module.apply({'params': params}, batch, rngs=rngs)
    return logits

  def _check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
    size, given = self.config.vit.image_size, shapes['encoder_images'][2:4]
    if given != (size, size):
      raise UserError(
        f'the task gives images of {given[0]} x {given[1]}, but the model '
        f'reads {size} x {size}: declare the task with this model'
      )


def params_axes(config: MMICLConfig) -> dict[str, Any]:
  """The tree of logical axes as T5X wants it: `kernel_axes` for `kernel`."""
  flat = trees.flatten(mmicl.abstract_params(config))
  return trees.unflatten(
    {
      f'{path}_axes': AxisMetadata(names=tuple(box.names))
      for path, box in flat.items()
    }
  )


def _metrics(sums: Mapping[str, jax.Array]) -> Metrics:
  from clu import metrics

  average: Any = metrics.Average
  return {
    name: average(total=sums[name], count=sums['tokens'])
    for name in ('loss', 'accuracy')
  }


def _own(cache: Any) -> Any:
  """The tokens' part of an empty cache, which loop.model_step takes."""
  if hasattr(cache, 'own'):  # one cache of stacked layers
    return cache.own
  return tuple(layer.own for layer in cache)


def _named(leaves: list[jax.Array]) -> dict[str, jax.Array]:
  """A cache as a dict, since T5X maps over dicts only."""
  return {f'{i}': leaf for i, leaf in enumerate(leaves)}
