"""The first table of a report: a row for each task and number of shots."""

from mmicl_jax.evaluation.summary import main_rows


def variant(shots, prompt, value, interval=None):
  head = {'metric': 'accuracy', 'value': value, 'interval': interval}
  whole = {'shots': shots, 'prompt': prompt, 'seed': 0, 'items': 10 + shots}
  return whole | {'headline': None if value is None else head}


def task(name, *variants):
  published = [
    {'model': 'BLIP', 'metric': 'accuracy', 'value': 50.0},
    {'model': 'BLIP', 'metric': 'other', 'value': 1.0},
  ]
  return {'task': name, 'variants': variants, 'published': published}


def test_each_number_of_shots_has_a_row():
  found = {
    'tasks': [
      task(
        'mme',
        variant(0, 0, 0.25, [0.1, 0.5]),
        variant(0, 1, 0.5),
        variant(2, 0, 0.75),
        variant(2, 1, 0.25),
        variant(2, 2, 0.5),
      ),
      task('vsr', variant(4, 0, None)),
    ]
  }
  none, two, other = main_rows(found)
  assert none == {
    'task': 'mme',
    'value': 0.25,
    '95 % interval': '0.100 to 0.500',
    'metric': 'accuracy',
    'items': 10,
    'shots': 0,
    'spread': '0.250 to 0.500 over 2 prompts',
    'published': 'BLIP 50.00',
  }
  assert (two['shots'], two['value'], two['items']) == (2, 0.75, 12)
  assert two['spread'] == '0.250 to 0.750 over 3 prompts'
  # They were asked in one way, and are beside the first row.
  assert two['published'] == two['95 % interval'] == ''
  assert (other['task'], other['shots'], other['value']) == ('vsr', 4, None)
