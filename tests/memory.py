"""How much more memory than its weights a model takes while it is read.

  python tests/memory.py --widths 512,768,1024

Each piece of work is done twice in one process. The first time libraries and
compiled programs take their share. The second time tells how far the peak is
above what the process had in use before. Divided by the weights that the work
holds in the end (and by the optimizer's state) it is 1 where nothing is ever
held twice.
"""

import argparse
import gc
import statistics
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import mmicl_jax
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.convert.disk import to_jax, to_pytorch
from mmicl_jax.models import configs, mmicl, partitioning
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece
from mmicl_jax.training import optim
from mmicl_jax.training.state import RunLayout
from mmicl_jax.training.trainee import Trainee

sys.path.append(str(Path(__file__).parent / 'helpers'))
import peak_memory  # noqa: E402
import tiny_dir  # noqa: E402

WORKS = (
  'load',
  'load int8',
  'load on 4 devices',
  'load from PyTorch',
  'generate',
  'INIT_FROM',
  'resume',
  'convert to-jax',
  'convert to-pytorch',
)
DEVICES = 4  # of the works that say so in their names


def config_of(width, image_token):
  """T5's width; the parts' proportions are about XXL's."""
  vit = width * 3 // 4
  return configs.MMICLConfig(
    vit=configs.ViTConfig(vit, 4, 4, mlp_dim=4 * vit, image_size=28),
    qformer=configs.QFormerConfig(
      width // 4, 4, 4, mlp_dim=width, vocab_size=1024, num_queries=4
    ),
    t5=configs.T5Config(
      width,
      4,
      4,
      num_heads=width // 64,
      mlp_dim=width * 5 // 2,
      vocab_size=4096,
    ),
    image_token=image_token,
  )


def layout_of(config):
  """A run of stage 2 with this model."""
  optimizer = optim.adamw(optim.log_warmup(1e-3, 10))
  return RunLayout.of(config, 'tune', optimizer, partitioning.make_mesh())


def make(folder, width):
  """A MODEL_DIR of a run's step 3, and its export."""
  run = folder / 'run'
  run.mkdir()
  vocabulary = run / model_dir.VOCABULARY
  train_sentencepiece(tiny_dir.TEXTS, vocabulary, 50)
  config = config_of(width, Tokenizer(vocabulary).image_id)
  model_dir.write_config(run, config)
  layout = layout_of(config)
  state, frozen = layout.random(jax.random.key(0))
  state = state.replace(step=state.step + 3)
  checkpointer = Checkpointer(run)
  checkpointer.save(3, layout.save_tree(state, frozen), {'position': 3})
  checkpointer.close()
  to_pytorch(run, folder / 'hf')


class NoData:
  """Batches that nobody asks for."""

  def get_state(self):
    return {}

  def set_state(self, state):
    pass


def start_training(folder, init_from):
  """What `mmicl train` holds before its first step."""
  layout = layout_of(model_dir.read_config(folder / 'run'))
  checkpointer = Checkpointer(folder / 'new' if init_from else folder / 'run')
  key = jax.random.key(0)
  trainee = Trainee.begin(layout, checkpointer, NoData(), init_from, key)
  return trainee.state, trainee.frozen


def answer(model):
  image = np.zeros((28, 28, 3), np.uint8)
  model.generate(mmicl_jax.Turn('what is it?', [image]), max_new_tokens=4)
  return model


def work(name, folder):
  """Does a piece of work; gives the arrays that it holds in the end, or wrote.

  A conversion holds nothing in the end: its measure is what it has written.
  """
  run = folder / 'run'
  if name.startswith('convert'):
    with tempfile.TemporaryDirectory(dir=folder) as out:
      if name == 'convert to-jax':
        to_jax(folder / 'hf', f'{out}/jax')
      else:
        to_pytorch(run, f'{out}/hf')
    return mmicl.abstract_params(model_dir.read_config(run))
  if name == 'INIT_FROM':
    return start_training(folder, run)
  if name == 'resume':
    return start_training(folder, None)
  if name == 'load int8':
    model = mmicl_jax.load(run, weights='int8')
  elif name == 'load on 4 devices':
    model = mmicl_jax.load(run, mesh=partitioning.make_mesh(1, 2, 2))
  elif name == 'load from PyTorch':
    model = mmicl_jax.load(folder / 'hf')
  else:
    model = mmicl_jax.load(run)
  if name == 'generate':
    answer(model)
  return model.engine.params


def num_bytes(held):
  """Of arrays, all their shards together, or of the shapes of arrays."""
  arrays = jax.tree.leaves(held)
  if not all(isinstance(x, jax.Array) for x in arrays):
    return sum(x.size * x.dtype.itemsize for x in arrays)
  return sum(s.data.nbytes for x in arrays for s in x.addressable_shards)


def measure(folder, names, runs=1):
  """{name: [(peak above what was in use, bytes held)] of so many runs}.

  Works on several devices have a process of their own.
  """
  found = {}
  for devices in (1, DEVICES):
    own = [n for n in names if (f'{DEVICES} devices' in n) == (devices > 1)]
    if own:
      arguments = '--work', folder, ','.join(own), '--runs', runs
      found |= peak_memory.run(__file__, *arguments, devices=devices)
  return found


def repeated(name, folder, runs):
  """[(Peak above what was in use, bytes held)], without the first time."""
  found = []
  for _ in range(runs + 1):
    held = []
    peak = peak_memory.above(lambda held=held: held.append(work(name, folder)))
    found.append((peak, num_bytes(held)))
    del held
    gc.collect()
  return found[1:]


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--widths', default='512,768,1024')
  parser.add_argument('--works', default=','.join(WORKS))
  parser.add_argument('--runs', type=int, default=3)
  parser.add_argument('--work', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.work:
    folder, names = args.work
    return peak_memory.report(
      **{n: repeated(n, Path(folder), args.runs) for n in names.split(',')}
    )
  print(f'{"":20} {"MiB held":>9} {"peak":>9} {"peak / held":>11}')
  for width in map(int, args.widths.split(',')):
    with tempfile.TemporaryDirectory() as folder:
      make(Path(folder), width)
      found = measure(folder, args.works.split(','), args.runs)
      for name in args.works.split(','):
        more, held = map(statistics.median, zip(*found[name], strict=True))
        print(
          f'{name:20} {held / 2**20:9.1f} {more / 2**20:9.1f} '
          f'{more / held:11.3f}',
          flush=True,
        )


if __name__ == '__main__':
  main()
