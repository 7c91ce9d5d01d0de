"""Rows that come and go one by one while the others' tokens go on.

A slot is a row of compiled arrays: a prompt's keys and values, and those of its
new tokens. Each slot has a position of its own, so a new prompt is put where
another one has ended, at any step. No slot reads another one's arrays.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from mmicl_jax.decoding.loop import Memory, Step, model_step
from mmicl_jax.decoding.row_options import (
  RowOptions,
  chosen,
  likeliest,
  number_key,
  penalised,
)
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.types import EOS, START

CHUNK = 4  # tokens of a row at most before the host looks at them
TOP = 20  # likeliest tokens that a row can be told
SHORT = 64  # while no row has more, steps do not attend to the room for more


class Slots(NamedTuple):
  """The state of R slots, for a model whose layers are not stacked.

  sequences: the start token, the new tokens, then zeros. index: how many
  tokens each row has, with the start token. keys: the data of random keys.
  """

  prompt: Memory
  own: PyTree
  sequences: Int[Array, 'R W']
  index: Int[Array, 'R']
  done: Bool[Array, 'R']
  keys: UInt32[Array, 'R X']
  options: RowOptions


class SlotTokens(NamedTuple):
  """The new tokens of R slots: the first `counts` of each row.

  done: which rows have ended. top_*: the likeliest tokens, where asked for.
  """

  tokens: Int[Array, 'R C']
  log_probs: Float[Array, 'R C']
  top_tokens: Int[Array, 'R C K']
  top_log_probs: Float[Array, 'R C K']
  counts: Int[Array, 'R']
  done: Bool[Array, 'R']


def empty_slots(
  model: MMICL, params: PyTree, prompt: Memory, rows: int, length: int
) -> Slots:
  """Slots for prompts as long as those of `prompt`; nothing is in them.

  length: the most new tokens of a row.
  """

  def zeros(x):
    return jnp.zeros((rows, *x.shape[1:]), x.dtype)

  cache: Any = model.apply(
    {'params': params}, rows, length, method='empty_cache'
  )
  integers, real = jnp.zeros(rows, jnp.int32), jnp.ones(rows)
  key = jax.random.key_data(jax.random.key(0))
  return Slots(
    jax.tree.map(zeros, prompt),
    tuple(layer.own for layer in cache),
    jnp.zeros((rows, length + 1), jnp.int32),
    integers + 1,
    jnp.ones(rows, bool),
    jnp.tile(key, (rows, 1)),
    RowOptions(
      max_new_tokens=integers,
      min_new_tokens=integers,
      do_sample=jnp.zeros(rows, bool),
      temperature=real,
      top_k=integers,
      top_p=real,
      repetition_penalty=real,
      no_repeat_ngram_size=integers,
      top=integers,
      seed=jnp.zeros((rows, 2), jnp.uint32),
      number=jnp.zeros(rows, jnp.uint32),
    ),
  )


def insert(
  slots: Slots,
  prompt: Memory,
  row: Int[Array, ''],
  slot: Int[Array, ''],
  options: RowOptions,
) -> Slots:
  """Puts a row of encoded prompts into a slot, whatever was in it.

  options: of this one row. What was in `own` is overwritten before it is read.
  """

  def put(old, new):
    return jax.lax.dynamic_update_index_in_dim(old, new, slot, 0)

  one = jax.tree.map(
    lambda x: jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=False), prompt
  )
  key = jax.random.fold_in(number_key(options.seed, options.number), 0)
  new = slots._replace(
    prompt=one,
    own=None,
    sequences=jnp.full(slots.sequences.shape[1], START, jnp.int32),
    index=jnp.int32(1),
    done=jnp.bool_(False),
    keys=jax.random.key_data(key),
    options=options,
  )
  changed = jax.tree.map(put, slots._replace(own=None), new)
  return changed._replace(own=slots.own)


def advance_slots(
  model: MMICL,
  params: PyTree,
  slots: Slots,
  rows: Int[Array, 'A'],
  active: Bool[Array, 'A'],
) -> tuple[Slots, SlotTokens]:
  """Adds up to CHUNK tokens to each active one of some slots.

  rows: the numbers of these slots, each once; if A is the number of all slots
  they are taken in their own order. A row that is not active keeps its state.
  It ends early once all have ended.
  """
  whole = len(active) == len(slots.index)
  part = slots
  if not whole:
    part = jax.tree.map(lambda x: x[rows], slots)
  step = model_step(model, params, part.prompt)
  live = active & ~part.done

  def run(part: Slots) -> tuple[Slots, SlotTokens]:
    return _run(step, part, active, _vocabulary(model))

  def run_short(part: Slots) -> tuple[Slots, SlotTokens]:
    changed, new = run(_shortened(part))
    # Others may have more tokens than fit.
    own = jax.tree.map(
      lambda x, y: x.at[:, :, :SHORT].set(
        jnp.where(live[:, None, None, None], y, x[:, :, :SHORT])
      ),
      part.own,
      changed.own,
    )
    sequences = jnp.where(
      live[:, None], changed.sequences, part.sequences[:, : SHORT + 1]
    )
    sequences = part.sequences.at[:, : SHORT + 1].set(sequences)
    return changed._replace(own=own, sequences=sequences), new

  if part.sequences.shape[1] > SHORT + 1:
    longest = jnp.where(live, part.index, 0).max() + CHUNK
    part, new = jax.lax.cond(longest <= SHORT, run_short, run, part)
  else:
    part, new = run(part)
  # The prompts do not change, so they are not written back.
  fixed: dict[str, Any] = {'prompt': None, 'options': None}
  changed = part._replace(**fixed)
  if not whole:
    changed = jax.tree.map(
      lambda x, y: x.at[rows].set(y), slots._replace(**fixed), changed
    )
  return changed._replace(prompt=slots.prompt, options=slots.options), new


def _shortened(part: Slots) -> Slots:
  return part._replace(
    own=jax.tree.map(lambda x: x[:, :, :SHORT], part.own),
    sequences=part.sequences[:, : SHORT + 1],
  )


def _run(
  step: Step, part: Slots, active: Bool[Array, 'A'], vocabulary: int
) -> tuple[Slots, SlotTokens]:
  """Adds up to CHUNK tokens to each active row, for which there is room."""
  shape = (len(active), CHUNK)
  new = SlotTokens(
    jnp.zeros(shape, jnp.int32),
    jnp.zeros(shape),
    jnp.zeros((*shape, min(TOP, vocabulary)), jnp.int32),
    jnp.zeros((*shape, min(TOP, vocabulary))),
    jnp.zeros(len(active), jnp.int32),
    part.done,
  )

  def running(carry):
    i, part, _ = carry
    return (i < CHUNK) & (active & ~part.done).any()

  def body(carry):
    i, part, new = carry
    return i + 1, *_add_tokens(step, part, new, active & ~part.done)

  _, part, new = jax.lax.while_loop(running, body, (0, part, new))
  return part, new


def _add_tokens(
  step: Step, part: Slots, new: SlotTokens, live: Bool[Array, 'A']
) -> tuple[Slots, SlotTokens]:
  """Runs the model once; rows that are not live keep what they have."""
  index, options = part.index, part.options
  rows = jnp.arange(len(index))
  last = part.sequences[rows, index - 1]
  logits, own = step(last[:, None], part.own, index - 1)
  scores = penalised(logits, part.sequences, index, options, live)
  keys = jax.random.wrap_key_data(part.keys)
  keys = jax.vmap(jax.random.fold_in)(keys, index)
  tokens = chosen(scores, keys, options, live)
  log_probs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  top_tokens, top_log_probs = likeliest(log_probs, TOP, options, live)

  # Rows that are not live write beyond the end, which is dropped.
  place = jnp.where(live, new.counts, CHUNK)
  new = SlotTokens(
    new.tokens.at[rows, place].set(tokens, mode='drop'),
    new.log_probs.at[rows, place].set(log_probs[rows, tokens], mode='drop'),
    new.top_tokens.at[rows, place].set(top_tokens, mode='drop'),
    new.top_log_probs.at[rows, place].set(top_log_probs, mode='drop'),
    new.counts + live,
    part.done | live & ((tokens == EOS) | (index >= options.max_new_tokens)),
  )
  width = part.sequences.shape[1]
  place = jnp.where(live, index, width)
  part = part._replace(
    own=own,
    sequences=part.sequences.at[rows, place].set(tokens, mode='drop'),
    index=index + live,
    done=new.done,
  )
  return part, new


def _vocabulary(model: MMICL) -> int:
  return model.config.t5.vocab_size
