"""Files of questions, and a model that answers with the question."""

import json
import types

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.answer_file import AnswerFile
from mmicl_jax.inference.predictor import Answer


class Echo:
  """Answers with the prompt's text; counts what it was asked."""

  engine = types.SimpleNamespace(batch_size=2)
  digest = 'echo'

  def __init__(self):
    self.asked = []

  def prompt(self, query, shots=(), style='plain'):
    for image in query.images:
      if not str(image).endswith('.png'):
        raise UserError(f'{image}: cannot read the image.')
    return (query.inputs,)

  def answers(self, prompts, options, rows):
    self.asked += rows.tolist()
    return [Answer(text, (1,), -1.0, (-1.0,)) for (text,) in prompts]


def write(path, count=40, **changes):
  lines = []
  for i in range(count):
    record = {'id': f'q{i}', 'input_text': f'question {i}', 'input_image': []}
    lines.append(changes.get(f'line{i + 1}', json.dumps(record)))
  path.write_text('\n'.join(lines) + '\n')
  return path


def make_job(tmp_path, **changes):
  fields = {
    'source': tmp_path / 'in.jsonl',
    'target': tmp_path / 'out.jsonl',
    'options': Options(),
    'settings': {'seed': 0},
  }
  return AnswerFile(**(fields | changes))


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]
