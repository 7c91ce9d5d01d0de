"""Reads finished prompts: finds images, and references to them, in the text.

`turns.py` writes prompts; this file reads them. It says what an image in a
prompt is, whether their number is right, what truncation must keep, and how a
prompt becomes a Turn's text again.
"""

import re
from typing import NamedTuple

from mmicl_jax.errors import UserError

IMAGE = '图'
MAX_IMAGES = 20
PROXIES = tuple(f'<image{k}>' for k in range(MAX_IMAGES))

# The place of one image: 图, or several in a row.
_RUN = re.compile(f'{IMAGE}+')
# An image in finished text: its name, if it has one, then its place.
IMAGE_SPAN = re.compile(rf'(?:<image(?P<name>[0-9]+)> ?)?{IMAGE}+')
_PROTECTED = re.compile(
  rf'(?:\b[Ii]mage [0-9]+(?: is|:)? ?)?(?:<image[0-9]+> ?)?{IMAGE}+\.?'
)
# 'image 0 is <image0>图.': group 2 is the image alone.
_DECLARATION = re.compile(rf'\b[Ii]mage ([0-9]+) is (<image\1> ?{IMAGE}+)\.?')
_CHAT_TURN = re.compile('\n(?=User: )')
# 'image 3', 'images 0, 1 and 3'; never 'image 30', 'preimage 3', 'image 3.5'.
_END = r'(?![0-9A-Za-z_]|\.[0-9])'
MENTION = re.compile(
  rf'\b[Ii]mages [0-9]+(?:(?:, and |, | and | or | to )[0-9]+)+{_END}'
  rf'|\b[Ii]mage [0-9]+{_END}|<image[0-9]+>'
)


class Span(NamedTuple):
  """A piece of a prompt; protected: truncation must keep it."""

  text: str
  protected: bool


def spans(inputs: str) -> list[Span]:
  """Cuts a prompt into pieces that truncation must keep or may drop.

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


def divided(inputs: str, style: str) -> list[str]:
  """The texts of a prompt's turns, the query's last."""
  return _CHAT_TURN.split(inputs) if style == 'chat' else inputs.split('\n\n')


def style_of(inputs: str) -> str:
  """The form that a prompt has: 'chat' if it begins with 'User: '."""
  return 'chat' if inputs.startswith('User: ') else 'plain'


def undeclared(inputs: str) -> str:
  """A prompt without declarations: 'image 0 is <image0>图.' -> '<image0>图'."""
  return _DECLARATION.sub(r'\2', inputs)


def without_images(text: str) -> str:
  """The text of a turn without its images and their declarations."""
  lines = re.sub(rf'{_DECLARATION.pattern}\n?', '', text)
  return IMAGE_SPAN.sub('', lines).lstrip()


def collapse(inputs: str) -> str:
  """Leaves one 图 for each image; published files may hold 32 copies."""
  return _RUN.sub(IMAGE, inputs)


def match_images(inputs: str, num_images: int) -> tuple[tuple[int, ...], str]:
  """Compares the places of images in a prompt with the number of its images.

  Returns (how many 图 stand in a row at each place, a sentence on what does not
  match). The sentence is '' if there is one place for each image:
  ('<image0>图 or <image1>图图', 2) -> ((1, 2), '').
  """
  copies = tuple(len(run) for run in _RUN.findall(inputs))
  if len(copies) == num_images:
    return copies, ''
  hint = f'write one <imageK>{IMAGE} for each image'
  if len(copies) < num_images <= sum(copies):
    hint = (
      f'adjacent {IMAGE} count as copies for one image, so put <imageK> '
      f'before the {IMAGE} of each image'
    )
  problem = (
    f'{num_images} images but {len(copies)} {IMAGE} in {short(inputs)}: {hint}.'
  )
  return copies, problem


def answer_problem(answer: str) -> str:
  """A sentence if an answer contains 图, otherwise ''."""
  if IMAGE not in answer:
    return ''
  return f'The answer {short(answer)} holds {IMAGE}: answers are text.'


def too_many(count: int) -> str:
  """The sentence that refuses a prompt with too many images."""
  return (
    f'{count} images in one prompt, but only {MAX_IMAGES} have names '
    f'({PROXIES[0]} to {PROXIES[-1]}): use fewer images or demonstrations.'
  )


def slotted(inputs: str, answer: str = '') -> tuple[str, str]:
  """Turns a finished prompt and its answer into a Turn's text and answer.

  'image 0 is <image0>图. Is image 0 red? See image 10.' becomes
  'image {0} is {image}. Is image {0} red? See image 10.': a number is a
  reference only if the prompt has that image. Raises UserError if two images
  have the same name.
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
  """Escapes text so that a Turn shows it literally: '{0}' -> '{{0}}'."""
  return re.sub(r'\{(image|[0-9]+)\}', r'{{\1}}', text)


def short(text: str) -> str:
  """A quoted text for messages, cut after 80 characters."""
  return repr(text if len(text) <= 80 else text[:77] + '...')
