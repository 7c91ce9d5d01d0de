"""Gives values of wrong types to each public name; prints what is not refused.

A program of its own: under pytest beartype would refuse them first.
"""

import sys
from pathlib import Path

import numpy as np

import mmicl_jax as mmicl

TURN = mmicl.Turn('what is {0}?', [np.zeros((28, 28, 3), np.uint8)], 'a cat')
NO_TEXT = (None, True, 3, 1.5, b'x', [], {}, object(), np.zeros(3))
NO_NUMBER = (None, True, 1.5, float('nan'), 'x', [], object())
NO_TURNS = (None, 3, 'x', [None])
NO_IDS = (None, 3, 1.5, 'x', [[1]], [1.5], ['x'], [None], np.zeros((2, 2)))
NO_ARRAY = (None, 3, 'x', [1, 2], np.zeros(3, np.int32), np.zeros((1, 3)))


def _refuses(name, call, values):
  for value in values:
    try:
      call(value)
      print(f'{name} takes {value!r}')
    except mmicl.UserError as error:
      if not str(error) or '\n' in str(error):
        print(f'{name}, {value!r}: {error!r}')
    except Exception as error:
      print(f'{name}, {value!r}: {type(error).__name__} {error}')


def turns_and_prompts():
  _refuses('Turn', mmicl.Turn, NO_TEXT)
  _refuses('answer', lambda x: mmicl.Turn('a', (), x), NO_TEXT)
  _refuses('inputs', lambda x: mmicl.Example(x, 'a'), NO_TEXT)
  _refuses('targets', lambda x: mmicl.Example('a', x), NO_TEXT)
  _refuses('turns', lambda x: mmicl.Example('a', 'a', (), x), NO_TURNS)
  _refuses('style', lambda x: mmicl.Example('a', 'a', (), (), x), NO_TEXT)
  _refuses('assemble', mmicl.assemble, (*NO_TEXT, 'a text'))
  _refuses('shots', lambda x: mmicl.assemble(TURN, x), NO_TURNS)
  _refuses(
    'style', lambda x: mmicl.assemble(TURN, style=x), (*NO_TEXT, 'other')
  )
  example = mmicl.assemble(TURN, [TURN])
  _refuses('keep_shots', example.keep_shots, (*NO_NUMBER, -1))


def vocabulary(tokenizer):
  _refuses('Tokenizer', mmicl.Tokenizer, (*NO_TEXT, 'no/such.model'))
  _refuses('encode', tokenizer.encode, NO_TEXT)
  _refuses('decode', tokenizer.decode, NO_IDS)
  if tokenizer.decode([]):
    print('decode([])')


def loading(directory):
  def with_option(name):
    return lambda value: mmicl.load(directory, **{name: value})

  _refuses('load', mmicl.load, NO_TEXT)
  for name in ('dtype', 'weights', 'tokenizer', 'cache_dir', 'mesh'):
    _refuses(name, with_option(name), NO_TEXT[1:])  # None is the default
  for name in ('batch_size', 'max_input_length'):
    _refuses(name, with_option(name), NO_NUMBER)
  _refuses('qformer_text', with_option('qformer_text'), (None, 3, 'x'))


def asking(model):
  _refuses('generate', model.generate, (None, 3, [None], b'x', {'a': 1}))
  _refuses('shots', lambda x: model.generate('a', x), NO_TURNS)
  _refuses('style', lambda x: model.generate('a', style=x), NO_TEXT)
  _refuses(
    'candidates',
    lambda x: model.score('a', x),
    (*NO_TEXT, [None], [['a'], ['b']]),
  )
  _refuses('reduce', lambda x: model.score('a', ['b'], reduce=x), NO_TEXT)
  _refuses('warm_up', model.warm_up, NO_NUMBER[1:])


def arrays(model):
  tokens = np.ones((2, 4), np.int32)
  batch = {'encoder_input_tokens': tokens, 'decoder_input_tokens': tokens}
  pixels = np.zeros((1, 1, 28, 28, 3), np.uint8)  # of one row
  for call in (model.logits, model.decode):

    def with_array(name, call=call):
      return lambda value: call({**batch, name: value})

    _refuses('batch', call, (None, 3, [], {}, 'x', tokens))
    for name in ('encoder_input_tokens', 'encoder_images'):
      _refuses(name, with_array(name), (*NO_ARRAY, pixels))
  _refuses(
    'features',
    lambda x: model.decode({**batch, 'encoder_features': x}),
    [np.zeros((2, 1, 4, 32), np.float32)],
  )


def main(folder):
  model = mmicl.load(folder)
  turns_and_prompts()
  vocabulary(model.tokenizer)
  loading(folder)
  asking(model)
  arrays(model)
  print('done')


if __name__ == '__main__':
  main(Path(sys.argv[1]))
