import collections
import json

import pytest

from mmicl_jax.context import templates
from mmicl_jax.context.lint import lint
from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.errors import UserError

IMAGES = {'nlvr2': 2, 'vcr': 3, 'video_qa': 8}
NAMES = ('caption', 'classification', 'nlvr2', 'vcr', 'video_qa', 'vqa')


@pytest.mark.parametrize('name', NAMES)
def test_every_form_makes_a_good_prompt(name):
  task = templates.load_templates(name)
  assert len(set(task.forms)) >= 4
  values = {field: f'a {field} {{0}}?' for field in task.fields}
  images = [f'{i}.png' for i in range(IMAGES.get(name, 1))]
  for form in task.forms:
    turn = Turn(templates.fill(form, **values), images, 'x')
    example = assemble(turn, [turn])
    assert lint(example) == []
    for value in values.values():
      assert value in example.inputs
    assert '?.' not in example.inputs and '..' not in example.inputs


def test_draw_depends_on_seed_and_id_alone():
  task = templates.load_templates('vqa')
  drawn = [task.draw(0, f'vqa-{i}') for i in range(600)]
  assert drawn == [task.draw(0, f'vqa-{i}') for i in range(600)]
  assert drawn != [task.draw(1, f'vqa-{i}') for i in range(600)]
  counts = collections.Counter(drawn)
  assert set(counts) == set(task.forms) and min(counts.values()) > 30
  assert (
    drawn[0]
    == task.forms[templates.load_templates('vqa').forms.index(drawn[0])]
  )


def test_draw_is_the_same_on_every_machine():
  task = templates.Templates('t', (), ('a', 'b', 'c', 'd'))
  assert ''.join(task.draw(0, i) for i in range(12)) == 'dabddabcaaba'


def test_values_are_text():
  form = 'image {0} is {image}. {question}. Why?'
  assert templates.fill(form, question='x^{2} {image}.') == (
    'image {0} is {image}. x^{{2}} {{image}}. Why?'
  )
  assert templates.fill('{question}.', question='Who?') == 'Who?'
  with pytest.raises(UserError, match='needs a value for {question}'):
    templates.fill(form)


def test_bad_files(tmp_path):
  with pytest.raises(UserError, match='No templates .*vqq.*caption, class'):
    templates.load_templates('vqq')
  path = tmp_path / 'mine.json'
  path.write_text('{"forms": []}')
  with pytest.raises(UserError, match='mine.json: templates are'):
    templates.load_templates(path)
  path.write_text(json.dumps({'fields': ['q'], 'forms': ['{q} {image} {r}']}))
  with pytest.raises(UserError, match='form 0 uses {r}'):
    templates.load_templates(path)
