"""Prompts of which one demonstration alone tells the answer."""

import random

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record, write_records
from mmicl_jax.evaluation.changed_prompts import Others

OTHERS = Others(['x.png', 'y.png'], ['dog', 'house'])


def prompts(count, shots=4):
  """Prompts of which demonstration i % shots alone tells the answer."""
  rng = random.Random(0)
  for i in range(count):
    key, labels = i % shots, rng.sample('abcdefgh', shots)
    turns = [
      Turn(f'what is {"it" if j == key else "that"}?', [f'{i}-{j}'], label)
      for j, label in enumerate(labels)
    ]
    query = Turn('what is it?', [f'{i}'], labels[key])
    yield key, assemble(query, turns)


def follows_the_key(ones):
  """A model that says what follows 'it?', as it is there before the query."""
  found = []
  for one in ones:
    shown = one.example.inputs.split('what is it? ')
    said = shown[1][:1] if len(shown) > 1 else ''
    found.append([-0.1 if c == said else -5.0 for c in one.candidates])
  return found


def records_in(folder, count=3):
  """A file of records whose images are there, and two that are left out."""
  records = []
  for i, (_, example) in enumerate(prompts(count, 2)):
    names = [f'{image}.ppm' for image in example.images]
    for j, name in enumerate(names):
      pixels = bytes([(40 * i + 9 * j) % 256, j, 255]) * 4
      (folder / name).write_bytes(b'P6 2 2 255\n' + pixels)
    records.append(
      Record(
        *(example.inputs, names, example.targets),
        id=f'r{i}',
        meta={'shots': 2},
      )
    )
  records.insert(1, Record('what?', [], 'it'))
  records.append(Record('a is b\n\na is', [], ''))
  path = folder / 'some.jsonl'
  write_records(path, records)
  return path
