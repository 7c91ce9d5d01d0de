"""A metrics callback for gin files: one line of JSON a step."""

import json


def writer(path):
  """Appends [step, loss] for each step."""

  def write(step, metrics):
    with open(path, 'a') as file:
      if 'loss' in metrics:  # else of an evaluation
        file.write(json.dumps([step, metrics['loss']]) + '\n')

  return write
