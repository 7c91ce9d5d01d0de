"""Run by a Python that has transformers 4.x, apart from the tests' own.

  python transformers4.py make KIND DIR     a random model in the former layout,
                                            DIR/hf, with inputs and outputs
  python transformers4.py load HF DIR       loads HF strictly, and its outputs
  python transformers4.py search DIR DIR    beam searches of DIR/searches.json
                                            with the T5 of DIR/weights.npz

Imports nothing of mmicl_jax, which this Python cannot import.
"""

import json
import pathlib
import sys

import hf_models
import numpy as np
import torch
import transformers


def encode(model, batch, counts):
  """Arguments of the language model: several images a prompt, as MMICL has."""
  tokens = torch.tensor(batch['encoder_input_tokens']).long()
  embeddings = model.language_model.get_input_embeddings()(tokens)
  pixels = np.concatenate(
    [batch['encoder_images'][b, :n] for b, n in enumerate(counts)]
  )
  pixels = torch.tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
  image = model.vision_model(pixels)[0]
  queries = model.query_tokens.expand(len(pixels), -1, -1)
  arguments = {}
  if 'qformer_input_tokens' in batch:
    words = torch.tensor(batch['qformer_input_tokens']).long()
    words = words.repeat_interleave(torch.tensor(counts), 0)
    mask = torch.cat(
      [torch.ones(queries.shape[:2]).long(), (words != 0).long()], 1
    )
    arguments = {'input_ids': words, 'attention_mask': mask}
  out = model.qformer(
    query_embeds=queries,
    encoder_hidden_states=image,
    encoder_attention_mask=torch.ones(image.shape[:2]).long(),
    **arguments,
  )[0]
  visual = model.language_projection(out[:, : queries.shape[1]])
  slots = (tokens == hf_models.IMAGE)[..., None].expand_as(embeddings)
  embeddings = embeddings.masked_scatter(slots, visual)
  return {
    'inputs_embeds': embeddings,
    'attention_mask': (tokens != 0).long(),
  }


def outputs(model, directory):
  with np.load(directory / 'batch.npz') as file:
    batch = dict(file)
  settings = json.loads((directory / 'settings.json').read_text())
  trainable = set(settings['trainable'])
  for name, parameter in model.named_parameters():
    parameter.requires_grad_(name in trainable)
  arguments = encode(model, batch, settings['counts'])
  labels = torch.tensor(batch['decoder_target_tokens']).long()
  weights = torch.tensor(batch['decoder_loss_weights'])
  out = model.language_model(
    **arguments, labels=labels.masked_fill(weights == 0, -100)
  )
  out.loss.backward()
  return {
    'logits': out.logits.detach().numpy(),
    'loss': out.loss.detach().numpy(),
    **generate(model, arguments, settings['beams'], settings['length']),
    **{
      f'gradient {name}': p.grad.numpy()
      for name, p in model.named_parameters()
      if p.grad is not None
    },
  }


def generate(model, arguments, beams, length):
  """Tokens of each row behind the start token, and the best two's scores."""
  arguments = {
    'inputs_embeds': arguments['inputs_embeds'].detach(),
    'attention_mask': arguments['attention_mask'],
    'max_length': length + 1,
    'do_sample': False,
    'decoder_start_token_id': 0,
    'return_dict_in_generate': True,
    'output_scores': True,
  }
  with torch.no_grad():
    greedy = model.language_model.generate(**arguments)
    best = model.language_model.generate(
      **arguments, num_beams=beams, num_return_sequences=2
    )
  return {
    'greedy': greedy.sequences[:, 1:].numpy(),
    'beam': best.sequences[::2, 1:].numpy(),
    'scores': best.sequences_scores.reshape(-1, 2).numpy(),
  }


def make(kind, directory):
  model = hf_models.hf_model(kind)
  model.save_pretrained(directory / 'hf', max_shard_size='40KB')
  np.savez(directory / 'expected.npz', **outputs(model, directory))


def load(source, directory):
  kind = json.loads((pathlib.Path(source) / 'config.json').read_text())
  name = kind['architectures'][0]
  model, info = getattr(transformers, name).from_pretrained(
    source, output_loading_info=True
  )
  (directory / 'info.json').write_text(
    json.dumps({k: list(v) for k, v in info.items()})
  )
  np.savez(directory / 'again.npz', **outputs(model.eval(), directory))


def search(source, directory):
  """Writes ids and scores of every set of options, the best first."""
  asked = json.loads((pathlib.Path(source) / 'searches.json').read_text())
  config = transformers.T5Config(**asked['config'])
  config.dense_act_fn = 'gelu'
  model = transformers.T5ForConditionalGeneration(config).eval()
  with np.load(pathlib.Path(source) / 'weights.npz') as file:
    model.load_state_dict({name: torch.tensor(x) for name, x in file.items()})
  tokens = torch.tensor(asked['prompts'])
  found = []
  for options in asked['options']:
    with torch.no_grad():
      output = model.generate(
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        return_dict_in_generate=True,
        output_scores=True,
        **options,
      )
    shape = (len(tokens), options['num_return_sequences'])
    found.append(
      {
        'ids': output.sequences[:, 1:].reshape(*shape, -1).tolist(),
        'scores': output.sequences_scores.reshape(shape).tolist(),
      }
    )
  (directory / 'found.json').write_text(json.dumps(found))


if __name__ == '__main__':
  {'make': make, 'load': load, 'search': search}[sys.argv[1]](
    sys.argv[2], pathlib.Path(sys.argv[3])
  )
