"""The sides of a benchmark: processes with the same weights, run in turns."""

import contextlib
import multiprocessing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmicl_jax.bench.workers import serve
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig


@runtime_checkable
class Asked(Protocol):
  """Sides by name, each of which can run a case."""

  names: Sequence[str]

  def ask(self, name: str, case: Any) -> tuple[float, np.ndarray]:
    """Runs a case on one side; returns (seconds, its output)."""
    ...


class Sides:
  """The worker processes; a context manager that ends them.

  sides: {name: (class of the side, dtype)}.
  """

  def __init__(self, sides: dict, directory: str, threads: int):
    context = multiprocessing.get_context('spawn')
    self.names: Sequence[str] = list(sides)
    self._pipes, self._processes = {}, []
    for name, (make, dtype) in sides.items():
      ours, theirs = context.Pipe()
      process = context.Process(
        target=serve, args=(theirs, make, directory, dtype, threads)
      )
      process.start()
      theirs.close()
      self._pipes[name] = ours
      self._processes.append(process)
    for name in self.names:
      self._receive(name)

  def ask(self, name: str, case: Any) -> tuple[float, np.ndarray]:
    """Runs a case on one side; returns (seconds, its output).

    Raises UserError if the side's process has ended.
    """
    self._pipes[name].send(case)
    return self._receive(name)

  def _receive(self, name: str) -> Any:
    try:
      return self._pipes[name].recv()
    except EOFError as error:
      raise UserError(
        f'the process of {name} ended: see its message above, or measure a '
        'smaller size.'
      ) from error

  def __enter__(self) -> 'Sides':
    return self

  def __exit__(self, *_) -> None:
    for pipe in self._pipes.values():
      with contextlib.suppress(OSError):  # the process may have ended
        pipe.send(None)
    for process in self._processes:
      process.join(10)
      if process.is_alive():
        process.terminate()


def timed(result: Mapping[str, Any]) -> dict[str, str]:
  """The first cells of a row in every table of two sides."""
  cells = {'size': result['size'], 'case': result['case']}
  for name, seconds in result['seconds'].items():
    cells[f'{name.replace("_", " ")}, s'] = span_text(seconds)
  for name in ('medians', 'minima'):
    cells[name] = f'{result[f"ratio_of_{name}"]:.2f}x'
  return cells


def span_text(values: Sequence[float], digits: int = 3) -> str:
  """Median (least to most), as text."""
  low, middle, high = (f'{f(values):.{digits}f}' for f in (min, np.median, max))
  return f'{middle} ({low} to {high})'


def save_random(
  config: MMICLConfig, directory: str, dtype: str = 'float32'
) -> None:
  """Saves a BLIP-2 of this size with random weights, by transformers.

  They are made on a GPU if there is one: billions of them take minutes on a
  CPU. dtype: of the weights in the file. Raises UserError if PyTorch or
  transformers is missing.
  """
  try:
    import torch
    import transformers
  except ImportError as error:
    raise UserError(
      'the benchmark compares with transformers: install torch and transformers'
    ) from error
  transformers.utils.logging.disable_progress_bar()
  vit, qformer, t5 = config.vit, config.qformer, config.t5
  theirs: Any = transformers.Blip2Config(
    vision_config={
      'hidden_size': vit.hidden_size,
      'num_hidden_layers': vit.num_layers,
      'num_attention_heads': vit.num_heads,
      'intermediate_size': vit.mlp_dim,
      'image_size': vit.image_size,
      'patch_size': vit.patch_size,
    },
    qformer_config={
      'hidden_size': qformer.hidden_size,
      'num_hidden_layers': qformer.num_layers,
      'num_attention_heads': qformer.num_heads,
      'intermediate_size': qformer.mlp_dim,
      'encoder_hidden_size': vit.hidden_size,
    },
    text_config={
      'model_type': 't5',
      'd_model': t5.hidden_size,
      'd_kv': t5.head_dim,
      'd_ff': t5.mlp_dim,
      'num_layers': t5.num_encoder_layers,
      'num_decoder_layers': t5.num_decoder_layers,
      'num_heads': t5.num_heads,
      'vocab_size': t5.vocab_size,
      'feed_forward_proj': 'gated-gelu',
      'dense_act_fn': t5.activation,
      'tie_word_embeddings': False,
      'decoder_start_token_id': 0,
    },
    num_query_tokens=qformer.num_queries,
    image_token_index=config.image_token,
  )
  theirs.image_token_index = config.image_token
  theirs.tie_word_embeddings = False
  torch.manual_seed(0)
  with torch.device('cuda' if torch.cuda.is_available() else 'cpu'):
    model = transformers.Blip2ForConditionalGeneration(theirs)
  model.to(getattr(torch, dtype))
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if parameter.ndim > 1:
        # As large as trained weights, so that the answers differ.
        parameter.normal_(0, parameter[0].numel() ** -0.5)
        if name.endswith('Attention.q.weight'):
          # T5 does not scale its scores, so its queries must be small. With
          # larger ones rounding grows until no two float32 runs agree.
          parameter *= t5.head_dim**-0.5
      elif 'norm' in name:
        parameter.fill_(float(name.endswith('weight')))
    head = model.language_model.lm_head
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight) * 0.05)
  model.save_pretrained(directory)
  del model, head
  if torch.cuda.is_available():
    torch.cuda.empty_cache()  # the sides need the room
