"""Records Hugging Face's model at the same places as ours (see probes.py).

It calls the model's towers one by one, as MMICL's published forward does: the
`forward` of transformers 4.x takes only one image for each prompt.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.parity.probes import Trace
from mmicl_jax.types import EOS, PAD


def load_model(directory: str | os.PathLike, config: MMICLConfig) -> Any:
  """Loads the model in float32 by transformers' own `from_pretrained`.

  Some checkpoints' config.json lacks or misstates the ViT's epsilon and the
  size of the Q-Former's vocabulary; both are taken from `config` instead.
  Raises UserError if PyTorch or transformers is missing.
  """
  try:
    import torch
    import transformers
  except ImportError as error:
    raise UserError(
      f'the comparison needs PyTorch and transformers ({error}): pip install '
      'torch transformers'
    ) from error
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  kind = 'InstructBlip' if config.qformer.instruction else 'Blip2'
  theirs = getattr(transformers, f'{kind}Config').from_pretrained(directory)
  theirs.vision_config.layer_norm_eps = config.vit.layer_norm_eps
  theirs.qformer_config.vocab_size = config.qformer.vocab_size
  model = getattr(transformers, f'{kind}ForConditionalGeneration')
  return model.from_pretrained(
    directory, config=theirs, torch_dtype=torch.float32
  ).eval()


def trace_torch(
  model: Any,
  config: MMICLConfig,
  batch: Mapping[str, np.ndarray],
  counts: Sequence[int],
  trainable: set[str],
  options: Options,
) -> Trace:
  """Runs Hugging Face's model on a batch and records what it computes.

  trainable: PyTorch's names of the parameters to differentiate. The other
  arguments are those of `probes.trace_jax`.
  """
  import torch

  for name, parameter in model.named_parameters():
    parameter.requires_grad_(name in trainable)
  values: dict[str, Any] = {}
  handles = _watch(model, values)
  arguments, visual = _encode(model, config, batch, counts)
  if visual is not None:
    values['projection'] = visual
  targets = torch.tensor(batch['decoder_target_tokens']).long()
  weights = torch.tensor(batch['decoder_loss_weights'])
  out = model.language_model(
    **arguments, labels=targets.masked_fill(weights == 0, -100)
  )
  for handle in handles:
    handle.remove()
  values['spliced embeddings'] = arguments['inputs_embeds']
  values['logits'], values['loss'] = out.logits, out.loss
  gradients = {}
  if trainable:
    out.loss.backward()
    gradients = {
      name: p.grad.numpy()
      for name, p in model.named_parameters()
      if name in trainable and p.grad is not None
    }
  generated, scores = _generate(model, arguments, options)
  real = batch['encoder_input_tokens'] != PAD
  arrays = {name: value.detach().numpy() for name, value in values.items()}
  for name in arrays:
    if name.startswith(('spliced', 'T5 encoder')):
      arrays[name] = arrays[name][real]
  return Trace(arrays, gradients, generated, scores)


def _watch(model: Any, values: dict[str, Any]) -> list[Any]:
  """Registers hooks that put each layer's output into `values`."""

  def patches(module, args, out):
    values['patch embedding'] = out.flatten(2).transpose(1, 2)

  def keep(name: str):
    def hook(module, args, out):
      values[name] = out[0] if isinstance(out, tuple) else out

    return hook

  vit, t5 = model.vision_model, model.language_model
  handles = [vit.embeddings.patch_embedding.register_forward_hook(patches)]
  for name, layers in (
    ('ViT layer', vit.encoder.layers),
    ('Q-Former layer', model.qformer.encoder.layer),
    ('T5 encoder layer', t5.encoder.block),
    ('T5 decoder layer', t5.decoder.block),
  ):
    for i, layer in enumerate(layers):
      handles.append(layer.register_forward_hook(keep(f'{name} {i}')))
  return handles


def _encode(model, config, batch, counts):
  """Returns (arguments of the language model, visual tokens or None)."""
  import torch

  tokens = torch.tensor(batch['encoder_input_tokens']).long()
  embeddings = model.language_model.get_input_embeddings()(tokens)
  visual = None
  if sum(counts):
    pixels = np.concatenate(
      [batch['encoder_images'][b, :n] for b, n in enumerate(counts)]
    )
    pixels = torch.tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    image = model.vision_model(pixels)[0]
    queries = model.query_tokens.expand(len(pixels), -1, -1)
    arguments = {}
    if config.qformer.instruction:
      mask = torch.ones(queries.shape[:2], dtype=torch.long)
      arguments['input_ids'] = None  # transformers 4.x has no default
      if 'qformer_input_tokens' in batch:
        words = torch.tensor(batch['qformer_input_tokens']).long()
        words = words.repeat_interleave(torch.tensor(list(counts)), 0)
        arguments['input_ids'] = words
        mask = torch.cat([mask, (words != PAD).long()], 1)
      arguments['attention_mask'] = mask
    out = model.qformer(
      query_embeds=queries,
      encoder_hidden_states=image,
      encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long),
      **arguments,
    )[0]
    visual = model.language_projection(out[:, : queries.shape[1]])
    slots = (tokens == config.image_token)[..., None].expand_as(embeddings)
    embeddings = embeddings.masked_scatter(slots, visual)
  return {
    'inputs_embeds': embeddings,
    'attention_mask': (tokens != PAD).long(),
  }, visual


def _generate(model, arguments, options):
  import torch

  def run(beams: int, best: int):
    with torch.no_grad():
      return model.language_model.generate(
        inputs_embeds=arguments['inputs_embeds'].detach(),
        attention_mask=arguments['attention_mask'],
        do_sample=False,
        num_beams=beams,
        num_return_sequences=best,
        max_length=options.max_new_tokens + 1,
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        decoder_start_token_id=PAD,
        # transformers 5.x sizes the cache by the number of encoder layers.
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
      )

  greedy = run(1, 1).sequences
  beams = run(options.num_beams, 2)
  scores = beams.sequences_scores.reshape(-1, 2).tolist()
  generated = {
    'greedy': [_until_end(row) for row in greedy.tolist()],
    'beam': [_until_end(row) for row in beams.sequences[::2].tolist()],
  }
  return generated, scores


def _until_end(ids: list[int]) -> list[int]:
  """Drops the start token, and all that follows the first end token."""
  ids = ids[1:]
  return ids[: ids.index(EOS) + 1] if EOS in ids else ids
