"""MIC record files and a vocabulary -> the loader that a model trains on."""

from collections.abc import Callable, Sequence

from jax.sharding import Mesh

from mmicl_jax.data.feature_store import FeatureStore
from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.data.loader import Loader, make_loader
from mmicl_jax.data.sources import sources
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.runtime import hosts
from mmicl_jax.tokenizer import Tokenizer


def record_loader(
  data: str | Sequence[str],
  model: MMICLConfig,
  vocabulary: str,
  batch_size: int,
  *,
  data_dir: str | None = None,
  templates: str | None = None,
  inputs_length: int = 512,
  targets_length: int = 128,
  max_images: int = 12,
  qformer_vocabulary: str | None = None,
  qformer_length: int = 512,
  seed: int = 0,
  shuffle: bool = True,
  num_epochs: int | None = None,
  workers: int = 0,
  skip_bad_records: bool = False,
  mesh: Mesh | None = None,
  feature_cache: str | None = None,
) -> Loader:
  """Reads record files, mixed by their sizes, in the shapes of a model.

  batch_size: over all processes; mesh: says which rows a process reads, see
  hosts.batch_share. templates: see data.sources. num_epochs: None repeats
  for ever, if `shuffle` in a new order each time; a number is for evaluation,
  which is never shuffled.
  qformer_vocabulary: BERT's vocab.txt; without it the Q-Former reads no text,
  as in all published scripts. feature_cache: a folder of `mmicl data
  cache-features` whose features take the images' place. Raises UserError for a
  missing file or a vocabulary that is not the model's.
  """
  if feature_cache is not None and qformer_vocabulary is not None:
    raise UserError(
      'FEATURE_CACHE holds what the Q-Former sees without text: unset it or '
      'QFORMER_VOCABULARY'
    )
  tokenizer = Tokenizer(vocabulary)
  check_vocabulary(tokenizer, model, vocabulary)
  bert = (
    None if qformer_vocabulary is None else BertTokenizer(qformer_vocabulary)
  )
  index, count = hosts.batch_share(mesh)
  return make_loader(
    sources(data, data_dir, templates, seed),
    feature_spec(
      model,
      inputs_length,
      targets_length,
      max_images,
      None if bert is None else qformer_length,
    ),
    tokenizer,
    batch_size // count,
    seed=seed,
    shuffle=shuffle and num_epochs is None,
    num_epochs=num_epochs,
    process_index=index,
    process_count=count,
    workers=workers,
    skip_bad_records=skip_bad_records,
    qformer_tokenizer=bert,
    features_of=None if feature_cache is None else FeatureStore(feature_cache),
  )


def feature_spec(
  model: MMICLConfig,
  inputs_length: int,
  targets_length: int,
  max_images: int,
  qformer_length: int | None = None,
) -> FeatureSpec:
  """The static shapes of a model's batches; UserError where there are none."""
  if min(inputs_length, targets_length) < 1 or max_images < 0:
    raise UserError(
      f'INPUTS_LENGTH ({inputs_length}) and TARGETS_LENGTH ({targets_length}) '
      f'must be at least 1, MAX_IMAGES ({max_images}) at least 0'
    )
  return FeatureSpec(
    inputs_length,
    targets_length,
    max_images,
    model.vit.image_size,
    model.qformer.num_queries,
    qformer_length,
  )


def check_vocabulary(
  tokenizer: Tokenizer, model: MMICLConfig, path: str
) -> None:
  """Raises UserError if a vocabulary is not the model's."""
  if tokenizer.image_id != model.image_token:
    raise UserError(
      f'{path} gives 图 the id {tokenizer.image_id}, but the model expects '
      f'{model.image_token}: use the vocabulary that belongs to the model'
    )
  if tokenizer.vocab_size > model.t5.vocab_size:
    raise UserError(
      f'{path} has {tokenizer.vocab_size} tokens, but the model embeds only '
      f'{model.t5.vocab_size}: use the vocabulary that belongs to the model'
    )


def eval_loader(
  data: str | Sequence[str] | None, make: Callable[..., Loader] = record_loader
) -> Loader | None:
  """One pass over held-out records in their order; None without data.

  make: `loader`, with what gin bound for the training data.
  """
  return None if data is None else make(data=data, num_epochs=1)
