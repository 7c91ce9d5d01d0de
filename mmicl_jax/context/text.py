"""Finished prompts: finding images and references to them in plain text.

The other direction of `context`: what is an image in a prompt, how many there
are, what truncation must keep, and how numbers become slots again.
"""

import re
from typing import NamedTuple

from mmicl_jax.errors import UserError

IMAGE = '图'
MAX_IMAGES = 20
PROXIES = tuple(f'<image{k}>' for k in range(MAX_IMAGES))

# An image in finished text: perhaps its name, then 图 or copies of it.
IMAGE_SPAN = re.compile(rf'(?:<image(?P<name>[0-9]+)> ?)?{IMAGE}+')
_PROTECTED = re.compile(
  rf'(?:\b[Ii]mage [0-9]+(?: is|:)? ?)?(?:<image[0-9]+> ?)?{IMAGE}+\.?'
)
# 'image 3', 'images 0, 1 and 3'; never 'image 30', 'preimage 3', 'image 3.5'.
_END = r'(?![0-9A-Za-z_]|\.[0-9])'
MENTION = re.compile(
  rf'\b[Ii]mages [0-9]+(?:(?:, and |, | and | or | to )[0-9]+)+{_END}'
  rf'|\b[Ii]mage [0-9]+{_END}|<image[0-9]+>'
)


class Span(NamedTuple):
  text: str
  protected: bool


def spans(inputs: str) -> list[Span]:
  """Cuts a prompt into what truncation must keep and what may give way.

  'image 0 is <image0>图.\\nWhat?' -> [('image 0 is <image0>图.', True),
  ('\\nWhat?', False)]. The texts joined are the prompt.
  """
  pieces, end = [], 0
  for match in _PROTECTED.finditer(inputs):
    if match.start() > end:
      pieces.append(Span(inputs[end : match.start()], False))
    pieces.append(Span(match[0], True))
    end = match.end()
  if end < len(inputs):
    pieces.append(Span(inputs[end:], False))
  return pieces


def collapse(inputs: str) -> str:
  """One 图 per image: published files may hold 32 copies for each."""
  return re.sub(f'{IMAGE}+', IMAGE, inputs)


def count_images(inputs: str) -> int:
  """The number of images in a prompt; a run of 图 is one image."""
  return len(re.findall(f'{IMAGE}+', inputs))


def count_problem(inputs: str, num_images: int) -> str:
  """One sentence on 图 against images, '' when they match."""
  if (runs := count_images(inputs)) == num_images:
    return ''
  hint = 'write one <imageK>图 for each image'
  if runs < num_images <= inputs.count(IMAGE):
    hint = (
      f'adjacent {IMAGE} count as copies for one image, so put <imageK> '
      f'before the {IMAGE} of each image'
    )
  return f'{num_images} images but {runs} {IMAGE} in {short(inputs)}: {hint}.'


def too_many(count: int) -> str:
  return (
    f'{count} images in one prompt, but only {MAX_IMAGES} have names '
    f'({PROXIES[0]} to {PROXIES[-1]}): use fewer images or demonstrations.'
  )


def slotted(inputs: str, answer: str = '') -> tuple[str, str]:
  """A finished single prompt and its answer as a Turn's text and answer.

  'image 0 is <image0>图. Is image 0 red? See image 10.' becomes
  'image {0} is {image}. Is image {0} red? See image 10.': only numbers of
  images that the prompt has are references. Raises UserError when two images
  have one name.
  """
  inputs = collapse(inputs)
  found = [m['name'] for m in IMAGE_SPAN.finditer(inputs)]
  positions: dict[int, int] = {}
  for position, name in enumerate(found):
    if name is not None:
      if int(name) in positions:
        raise UserError(f'<image{name}> names two images in {short(inputs)}.')
      positions[int(name)] = position
  for position, name in enumerate(found):
    if name is None:
      positions.setdefault(position, position)

  def reference(match: re.Match) -> str:
    if not all(int(n) in positions for n in re.findall('[0-9]+', match[0])):
      return match[0]
    return re.sub('[0-9]+', lambda n: f'{{{positions[int(n[0])]}}}', match[0])

  def slots(text: str) -> str:
    return MENTION.sub(reference, escape(text))

  texts = IMAGE_SPAN.sub(IMAGE, inputs).split(IMAGE)
  return '{image}'.join(map(slots, texts)), slots(answer)


def escape(text: str) -> str:
  """Text that a Turn shows as it is: '{0}' -> '{{0}}'."""
  return re.sub(r'\{(image|[0-9]+)\}', r'{{\1}}', text)


def short(text: str) -> str:
  return repr(text if len(text) <= 80 else text[:77] + '...')
