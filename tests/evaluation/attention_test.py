"""Attention by demonstrations and pictures, of a model that looks at white."""

import dataclasses
import json

import pytest
import tiny_dir
from keyed_prompts import follows_the_key
from looking import CONFIG, PATCH, looking, picture
from PIL import Image

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record
from mmicl_jax.evaluation.attention import prompt_attention, turn_ends
from mmicl_jax.evaluation.explanation import explain_records
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece


def examples(folder):
  """Prompts in both forms of which demonstration j has the white patch."""
  for i in range(4):
    j, style = i % 2, 'chat' if i > 1 else 'plain'
    turns = []
    for k in range(3):
      path = folder / f'{i}-{k}.png'
      Image.fromarray(picture(255 * (k == j), k)).save(path)
      text = 'what is it?  yes' if k else 'image {0} is {image}. what is it?'
      turns.append(Turn(text, [str(path)], ('dog', 'cat', 'dog')[k]))
    yield j, assemble(turns[-1], turns[:-1], style=style, name=f'prompt {i}')


@pytest.mark.parametrize('style', ['plain', 'chat'])
def test_a_turn_may_have_lines_that_end_others(style):
  text = 'first\n\nsecond\nUser: third'
  shot = Turn(f'{text} {{image}}', ['a'], 'red ')
  each = 8 if style == 'chat' else 6  # words of a demonstration
  for shots in range(3):
    example = assemble(Turn(text), [shot] * shots, style=style)
    expected = [each * (i + 1) for i in range(shots)]
    words = len(example.inputs.split())
    assert turn_ends(example, str.split, 3) == [*expected, words]


@pytest.mark.slow
def test_the_demonstration_with_the_white_patch_gets_it_all(tmp_path):
  train_sentencepiece(tiny_dir.TEXTS, tmp_path / 'spiece.model', 50)
  tokenizer = Tokenizer(tmp_path / 'spiece.model')
  config = dataclasses.replace(
    CONFIG,
    t5=dataclasses.replace(CONFIG.t5, vocab_size=tokenizer.vocab_size),
    image_token=tokenizer.image_id,
  )
  predictor = Predictor(Engine(config, looking(config)), tokenizer)
  keys, chosen = zip(*examples(tmp_path), strict=True)
  records = [
    (Record(one.inputs, list(one.images), one.targets), one) for one in chosen
  ]
  out, attend = tmp_path / 'out', prompt_attention(predictor)
  facts = {'checkpoint': 'c', 'input': 'i'}
  found = explain_records(records, {}, follows_the_key, out, facts, attend)
  lines = [json.loads(line) for line in (out / 'explain.jsonl').open()]
  for j, line in zip(keys, lines, strict=True):
    told = line['attention']
    assert told['demonstrations'][j] > 0.999
    whole = sum(told['demonstrations']) + told['query']
    assert whole == pytest.approx(1, abs=1e-4)
    assert told['images'][j] > 0.999 and len(told['images']) == 3
    row, column = divmod(PATCH, 4)
    assert told['patches'][j][row][column] > 0.999
    for share, own, rest in zip(
      *(told[key] for key in ('images', 'class_tokens', 'patches')), strict=True
    ):
      assert own + sum(map(sum, rest)) == pytest.approx(share, abs=1e-4)
  assert found['attention']['images'] > 0.999
  assert found['attention']['by_chance'] == 0.5
  page = (out / 'index.html').read_text()
  assert page.count('alt="attention over image') == 12
  assert '100 % of attention' in page and 'not an explanation' in page
