"""The prompt linter: tells a person what is wrong with a finished prompt.

A model trained on prompts whose image names are wrong learns to ignore the
names, and nothing crashes. So files are checked before training.
"""

import re
from typing import Any

from mmicl_jax.context.text import (
  IMAGE,
  IMAGE_SPAN,
  MAX_IMAGES,
  MENTION,
  answer_problem,
  match_images,
  short,
  too_many,
)


def lint(prompt: Any) -> list[str]:
  """One sentence for each problem of an Example, a Record or a prompt."""
  if isinstance(prompt, str):
    return [*_images(prompt), *_mentions(prompt, '')]
  _, problem = match_images(prompt.inputs, len(prompt.images))
  return [
    *([problem] if problem else []),
    *_images(prompt.inputs),
    *_mentions(prompt.inputs, prompt.targets),
    *_answer(prompt.targets),
  ]


def _images(inputs: str) -> list[str]:
  if not inputs.strip():
    return ['The prompt is empty.']
  problems = []
  found = list(IMAGE_SPAN.finditer(inputs))
  names = [None if m['name'] is None else int(m['name']) for m in found]
  if len(found) > MAX_IMAGES:
    problems.append(too_many(len(found)))
  if unnamed := [i for i, name in enumerate(names) if name is None]:
    problems.append(
      f'No <imageK> before the {IMAGE} of {_listed(unnamed)} in '
      f'{short(inputs)}: write <image{unnamed[0]}>{IMAGE}.'
    )
  named = [name for name in names if name is not None]
  if twice := sorted({name for name in named if named.count(name) > 1}):
    problems.append(
      f'{_proxies(twice)} names more than one image: number images once, by '
      'position.'
    )
  elif wrong := [n for i, n in enumerate(names) if n is not None and n != i]:
    position = names.index(wrong[0])
    problems.append(
      f'Image {position} is named <image{wrong[0]}>: names go by position, '
      f'<image{position}>.'
    )
  if beyond := [n for n in sorted(set(named)) if n >= MAX_IMAGES]:
    problems.append(
      f'{_proxies(beyond)} is no name that the tokenizer knows: names end at '
      f'<image{MAX_IMAGES - 1}>.'
    )
  copies = [m[0].count(IMAGE) for m in found]
  if len(set(copies)) > 1:
    odd = next(i for i, n in enumerate(copies) if n != copies[0])
    problems.append(
      f'Image {odd} has {copies[odd]} copies of {IMAGE} but image 0 has '
      f'{copies[0]}: adjacent images need their <imageK> between them, and a '
      'cut prompt needs its images back.'
    )
  return problems


def _mentions(inputs: str, targets: str) -> list[str]:
  found = list(IMAGE_SPAN.finditer(inputs))
  declared = {m['name'] for m in found if m['name'] is not None}
  declared |= {str(i) for i, m in enumerate(found) if m['name'] is None}
  undeclared: dict[str, None] = {}
  # A name right before its image declares it; it does not mention it.
  for match in MENTION.finditer(IMAGE_SPAN.sub(IMAGE, inputs) + '\n' + targets):
    # Without images 'image 3' is ordinary prose, but <image3> is always a name.
    if found or match[0].startswith('<'):
      for number in re.findall('[0-9]+', match[0]):
        if number not in declared:
          undeclared[match[0]] = None
  count = f'{len(found)} image' + 's' * (len(found) != 1)
  return [
    f'{mention!r} is mentioned, but the prompt has {count}, counted from 0.'
    for mention in undeclared
  ]


def _answer(targets: str) -> list[str]:
  if not targets.strip():
    return ['The answer is empty.']
  problem = answer_problem(targets)
  return [problem] if problem else []


def _listed(numbers: list[int]) -> str:
  return ', '.join(f'image {n}' for n in numbers)


def _proxies(numbers: list[int]) -> str:
  return ', '.join(f'<image{n}>' for n in numbers)
