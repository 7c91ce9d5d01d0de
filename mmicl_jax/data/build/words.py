"""Words of annotations that could be taken for names of images are respelled.

In a prompt 图, <image3> and 'image 3' name its images, and 'User:' and 'Bot:'
begin turns. What annotators wrote may hold the same words and mean nothing by
them.
"""

import re

from mmicl_jax.context.text import IMAGE, MENTION

_TRADITIONAL = '圖'  # the same word in the other Chinese spelling
_TAG = re.compile(r'<(image[0-9]*)>', re.IGNORECASE)
# At the start of a text or of a line, whatever character ends lines.
_SPEAKER = re.compile(
  r'(^|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])([^\S\n]*(?:User|Bot)):'
)
_NUMBERED = re.compile(r'\b(images?)(\s+[0-9])', re.IGNORECASE)
_LAST_WORD = re.compile(r'\b(images?)(\s*)$', re.IGNORECASE)


def respelled(text: str) -> str:
  """Wanted text that names no image and begins no turn.

  'See image 3, <image3> 图' -> 'See picture 3, (image3) 圖'.
  """
  text = _TAG.sub(r'(\1)', text.replace(IMAGE, _TRADITIONAL))
  text = MENTION.sub(lambda m: _picture(m[0]), text)
  text = _NUMBERED.sub(lambda m: _picture(m[1]) + m[2], text)
  return _SPEAKER.sub(r'\1\2 :', text)


def before_answer(text: str, answer: str) -> str:
  """The text of a turn whose answer does not make a name of its last word.

  'How many are in the image' and '7' -> 'How many are in the picture'.
  """
  if not answer[:1].isdigit():
    return text
  return _LAST_WORD.sub(lambda m: _picture(m[1]) + m[2], text)


def _picture(mention: str) -> str:
  mention = mention.replace('Image', 'Picture').replace('IMAGE', 'PICTURE')
  return re.sub('image', 'picture', mention, flags=re.IGNORECASE)


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
