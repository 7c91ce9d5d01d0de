"""Work that kills.py disturbs: what it reads, one life of it, what it leaves.

A life is run in a process of its own and writes to folder/name; `whole` is
the output of a life that nobody disturbed, `killed` the other's.
"""

import abc
import json
import os
import shutil
import sys
import time
from pathlib import Path

import benchmark_trees
import jax
import numpy as np
import tiny_dir
import tiny_records
from flax import traverse_util
from official_trees import picture, write_tree

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints import steps as checkpoint_steps
from mmicl_jax.checkpoints import store
from mmicl_jax.convert.disk import to_pytorch
from mmicl_jax.data import feature_store
from mmicl_jax.data.build import looking
from mmicl_jax.data.feature_store import FeatureStore, key_of
from mmicl_jax.data.loader import record_loader
from mmicl_jax.training import optim
from mmicl_jax.training.loop import train
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)

RECORDS = 24  # of the answers and of the features


class Job(abc.ABC):
  """A command that is killed and started again until it is complete."""

  def prepare(self, folder: Path) -> None:
    """Writes what the command reads."""
    (folder / 'model').mkdir()
    tiny_dir.make(folder / 'model')
    tiny_records.write(folder, RECORDS)

  def arguments(self, folder: Path, name: str) -> list[str]:
    """What the command is given; nothing for a job with a `live` of its own."""
    return []

  def live(self, folder: Path, name: str) -> int:
    """One life, from whatever is there; the exit status."""
    return main(self.arguments(folder, name))

  @abc.abstractmethod
  def saved(self, folder: Path, name: str) -> int:
    """How much is safe: a number that no kill may lower."""

  def complete(self, folder: Path) -> bool:
    """Whether a command that was killed had done everything before."""
    return False

  @abc.abstractmethod
  def compare(self, folder: Path) -> None:
    """Raises AssertionError if `killed` is not, bit for bit, `whole`."""


class Train(Job):
  """A run of a tiny model, whose loader notes the ids of each batch."""

  steps = 40

  def prepare(self, folder):
    tiny_records.write(folder, 7)

  def live(self, folder, name):
    config = tiny_records.config(folder)
    loader = record_loader(
      str(folder / 'train.jsonl'),
      config,
      str(folder / 'spiece.model'),
      batch_size=2,
      inputs_length=48,
      targets_length=4,
      max_images=1,
      seed=1,
    )
    pause = 0.0 if name == 'whole' else 0.02
    train(
      ModelSettings(config, 'tune'),
      DataSettings(_Recorded(loader, folder / f'{name}.ids', pause)),
      StepSettings(self.steps, 2, optim.constant(1e-2)),
      RunSettings(folder / name, save_every=2, keep=2),
    )
    return 0

  def saved(self, folder, name):
    return checkpoint_steps.latest_step(folder / name) or 0

  def compare(self, folder):
    expected, found = (_ids(folder, name) for name in ('whole', 'killed'))
    assert found == expected and set(expected) == set(range(1, self.steps + 1))
    _same_weights(folder)


class Generate(Job):
  """A file of answers, beside a folder of features."""

  def arguments(self, folder, name):
    return [
      *('generate', '--checkpoint', str(folder / 'model')),
      *('--input', str(folder / 'train.jsonl'), '--max_new_tokens', '4'),
      *('--output', str(folder / f'{name}.jsonl'), '--batch_size', '2'),
      *('--cache_dir', str(folder / f'{name}.cache')),
    ]

  def saved(self, folder, name):
    path = folder / f'{name}.jsonl'
    return path.read_bytes().count(b'\n') if path.exists() else 0

  def compare(self, folder):
    whole, killed = (
      (folder / f'{name}.jsonl').read_bytes() for name in ('whole', 'killed')
    )
    assert killed == whole and whole.count(b'\n') == RECORDS


class Eval(Job):
  """A benchmark without and with a demonstration, to its report."""

  def prepare(self, folder):
    super().prepare(folder)
    benchmark_trees.hateful_memes(folder / 'raw')

  def arguments(self, folder, name):
    return [
      *('eval', '--checkpoint', str(folder / 'model'), '--raw'),
      *(str(folder / 'raw'), '--task', 'hateful_memes', '--workers', '1'),
      *('--shots', '0,1', '--batch_size', '1', '--out', str(folder / name)),
    ]

  def saved(self, folder, name):
    found = (folder / name).glob('**/predictions.jsonl')
    return sum(path.read_bytes().count(b'\n') for path in found)

  def compare(self, folder):
    whole, killed = (
      {
        path.relative_to(folder / name): path.read_bytes()
        for path in sorted((folder / name).rglob('*'))
        if path.is_file() and 'looks' not in path.parts
      }
      for name in ('whole', 'killed')
    )
    assert sorted(whole) == sorted(killed) and len(whole) > 8
    assert [x for x in whole if whole[x] != killed[x]] == []


class CacheFeatures(Job):
  """A folder of features, in shards of two images."""

  def arguments(self, folder, name):
    return [
      *('data', 'cache-features', str(folder / 'train.jsonl')),
      *('--checkpoint', str(folder / 'model'), '--out', str(folder / name)),
      *('--batch_size', '2'),
    ]

  def live(self, folder, name):
    feature_store.PER_FILE = 2
    return super().live(folder, name)

  def saved(self, folder, name):
    found = (folder / name / 'index.json').exists()
    return len(FeatureStore(folder / name)) if found else 0

  def compare(self, folder):
    whole, killed = (
      FeatureStore(folder / name) for name in ('whole', 'killed')
    )
    assert len(whole) == len(killed) == RECORDS
    for i in range(RECORDS):
      key = key_of(str(folder / f'{i}.png'))
      np.testing.assert_array_equal(whole.get(key), killed.get(key))


class Convert(Job):
  """All or nothing: the folder is complete when it has its name."""

  def saved(self, folder, name):
    return int((folder / name).exists())

  def complete(self, folder):
    return (folder / 'killed').exists()


class ToPytorch(Convert):
  def arguments(self, folder, name):
    return [
      *('convert', 'to-pytorch', '--checkpoint', str(folder / 'model')),
      *('--out', str(folder / name)),
    ]

  def compare(self, folder):
    whole, killed = (
      {path.name: path.read_bytes() for path in (folder / name).iterdir()}
      for name in ('whole', 'killed')
    )
    assert killed == whole and 'model.safetensors' in whole


class ToJax(Convert):
  def prepare(self, folder):
    super().prepare(folder)
    to_pytorch(folder / 'model', folder / 'hf')

  def arguments(self, folder, name):
    return [
      *('convert', 'to-jax', '--source', str(folder / 'hf')),
      *('--out', str(folder / name)),
    ]

  def compare(self, folder):
    for file in ('model.json', 'spiece.model'):
      whole, killed = (folder / name / file for name in ('whole', 'killed'))
      assert killed.read_bytes() == whole.read_bytes(), file
    _same_weights(folder)


class Build(Job):
  """Two splits of VQAv2, looked at in parts of four pictures."""

  pictures = 60

  def prepare(self, folder):
    for split in ('train2014', 'val2014'):
      rows = [
        {'question_id': i, 'image_id': i, 'question': f'What is {i}?'}
        for i in range(self.pictures)
      ]
      own = [
        {'question_id': i, 'answers': [{'answer': f'a {i}'}, {'answer': 'it'}]}
        for i in range(self.pictures)
      ]
      files = {
        f'v2_OpenEnded_mscoco_{split}_questions.json': {'questions': rows},
        f'v2_mscoco_{split}_annotations.json': {'annotations': own},
      }
      for i in range(self.pictures):
        data = picture(i, size=(900, 600)) if i % 9 else b'no picture'
        files[f'{split}/COCO_{split}_{i:012d}.jpg'] = data
      write_tree(folder / 'raw', files)

  def arguments(self, folder, name):
    return [
      *('data', 'build', '--dataset', 'vqav2', '--raw', str(folder / 'raw')),
      *('--out', str(folder / name), '--workers', '2'),
    ]

  def live(self, folder, name):
    looking._PER_PART = 4
    return super().live(folder, name)

  def saved(self, folder, name):
    if (folder / name / 'manifest.json').exists():
      return 10_000
    found = folder / name / '.parts'
    done = len(list(found.glob('*.done.json')))
    return 1000 * done + len(list(found.glob('*/*.json')))

  def complete(self, folder):
    names = {path.name for path in (folder / 'killed').glob('*')}
    return 'manifest.json' in names and '.parts' not in names

  def compare(self, folder):
    whole, killed = (
      {
        str(path.relative_to(folder / name)): path.read_bytes()
        for path in (folder / name).rglob('*')
        if path.is_file()
      }
      for name in ('whole', 'killed')
    )
    assert whole.keys() == killed.keys() and len(whole) > self.pictures / 2
    assert whole == killed


JOBS: dict[str, type[Job]] = {
  'build': Build,
  'train': Train,
  'generate': Generate,
  'eval': Eval,
  'cache-features': CacheFeatures,
  'to-jax': ToJax,
  'to-pytorch': ToPytorch,
}


def live(job: Job, folder: str, name: str) -> None:
  """One life, as the only work of this process."""
  os.environ['JAX_PLATFORMS'] = 'cpu'
  jax.config.update('jax_compilation_cache_dir', f'{folder}/cache')
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  # Its progress, not ours.
  sys.stdout = sys.stderr = open(f'{folder}/{name}.log', 'a')
  status = job.live(Path(folder), name)
  sys.stderr.flush()
  sys.exit(status)


def outputs(folder: Path) -> list[Path]:
  """All files of `killed`, those under another name too."""
  return [
    path
    for top in (*folder.glob('killed*'), *folder.glob('.killed*'))
    if not top.name.endswith('.log')
    for path in (top, *top.rglob('*'))
  ]


def remove_outputs(folder: Path) -> None:
  for path in outputs(folder):
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink(missing_ok=True)


class _Recorded:
  """A loader that writes the ids of each batch's examples to a file."""

  def __init__(self, loader, path, pause):
    self.loader, self.path, self.pause = loader, path, pause
    self.get_state, self.set_state = loader.get_state, loader.set_state

  def __iter__(self):
    with open(self.path, 'a') as file:
      for batch, info in self.loader:
        file.write(json.dumps([info.next_step, info.ids]) + '\n')
        file.flush()
        time.sleep(self.pause)
        yield batch, info


def _ids(folder: Path, name: str) -> dict[int, list[str]]:
  """The ids of each step; a step that ran twice must have read the same."""
  found: dict[int, list[str]] = {}
  for line in (folder / f'{name}.ids').read_text().splitlines():
    try:
      step, names = json.loads(line)
    except ValueError:  # the line that a kill cut short
      continue
    assert found.setdefault(step, names) == names, f'step {step} read others'
  return found


def _same_weights(folder: Path) -> None:
  one, other = (
    traverse_util.flatten_dict(store.load_weights(folder / name), sep='/')
    for name in ('whole', 'killed')
  )
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_array_equal(value, other[name], err_msg=name)
