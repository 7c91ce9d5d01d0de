"""Words of annotations that could be taken for names of images are respelled.

In a prompt 图, <image3> and 'image 3' name its images, and 'User:' and 'Bot:'
begin turns. What annotators wrote may hold the same words and mean nothing by
them.
"""

import re

from mmicl_jax.context.text import IMAGE, MENTION

_TRADITIONAL = '圖'  # the same word in the other Chinese spelling
_TAG = re.compile(r'<(image[0-9]*)>', re.IGNORECASE)
_SPEAKER = re.compile(r'^([ \t]*(?:User|Bot)):', re.MULTILINE)
_NUMBERED = re.compile(r'\b([Ii])mage(s?)([ \t]+[0-9])')


def respelled(text: str) -> str:
  """Wanted text that names no image and begins no turn.

  'See image 3, <image3> 图' -> 'See picture 3, (image3) 圖'.
  """
  text = _TAG.sub(r'(\1)', text.replace(IMAGE, _TRADITIONAL))
  text = MENTION.sub(lambda m: _picture(m[0]), text)
  text = _NUMBERED.sub(lambda m: _picture(m[0]), text)
  return _SPEAKER.sub(r'\1 :', text)


def _picture(mention: str) -> str:
  return mention.replace('image', 'picture').replace('Image', 'Picture')


def lettered(choices: list[str] | tuple[str, ...]) -> str:
  """Choices under letters, a line each: 'A. red\\nB. blue'."""
  return '\n'.join(labelled(choices))


def labelled(choices: list[str] | tuple[str, ...]) -> list[str]:
  return [f'{letter(i)}. {choice}' for i, choice in enumerate(choices)]


def letter(index: int) -> str:
  """0 -> 'A', 25 -> 'Z', 26 -> 'AA'."""
  text = ''
  index += 1
  while index:
    index, rest = divmod(index - 1, 26)
    text = chr(ord('A') + rest) + text
  return text
