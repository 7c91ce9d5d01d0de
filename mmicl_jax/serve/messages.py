"""Conversations become turns: user and assistant turns are demonstrations.

The order of parts is kept, and images are numbered once over all messages.
Clients' texts are escaped: braces in them are braces. Only the form `turns` has
the slots of `context.turns.Turn`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmicl_jax.context.text import MAX_IMAGES, escape
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.errors import UserError
from mmicl_jax.serve.fields import Fields, unreserved
from mmicl_jax.serve.http_errors import bad_request
from mmicl_jax.serve.surrogates import clean

IMAGE_FORMATS = ('auto', 'declare', 'inline')
MAX_TEXT = 64_000  # characters of a request
MAX_TURNS = 1000  # of a request, and messages
NAME = 'the prompt'  # in messages; a log must not quote the prompt itself

_ROLES = ('system', 'developer', 'user', 'assistant')


@dataclasses.dataclass
class ImageAt:
  """An image's URL, and where in the request it stands.

  The URL may hold the whole file; it is emptied once that was read.
  """

  url: str
  param: str


@dataclasses.dataclass(frozen=True)
class Draft:
  """A Turn whose images are not read yet: so many of the conversation's."""

  text: str
  images: int
  answer: str
  param: str


@dataclasses.dataclass(frozen=True)
class Conversation:
  """Demonstrations and the query; `images` are those of all, in order.

  param: the field of the request that it was read from. ignored: the paths of
  fields in it that mean nothing. raw: a finished prompt instead of turns.
  """

  drafts: tuple[Draft, ...]
  images: tuple[ImageAt, ...]
  param: str
  ignored: tuple[str, ...] = ()
  raw: str | None = None

  def example(
    self, images: Sequence[Any], style: str, shots: int | None
  ) -> Example:
    """The prompt with these images, and only the last `shots` demonstrations.

    Raises HttpError for turns that cannot be a prompt.
    """
    if self.raw is not None:
      try:
        return Example(self.raw, '', images, name=NAME)
      except UserError as error:
        raise bad_request(str(error), self.param) from error
    turns, first = [], 0
    for draft in self.drafts:
      own = tuple(images[first : first + draft.images])
      first += draft.images
      try:
        turns.append(Turn(draft.text, own, draft.answer))
      except UserError as error:
        raise bad_request(str(error), draft.param) from error
    *demonstrations, query = turns
    if shots is not None:
      demonstrations = demonstrations[max(len(demonstrations) - shots, 0) :]
    try:
      return assemble(query, demonstrations, style=style, name=NAME)
    except UserError as error:
      shown = self.drafts[len(turns) - 1 - len(demonstrations) : -1]
      silent = (draft.param for draft in shown if not draft.answer.strip())
      raise bad_request(str(error), next(silent, self.param)) from error


def read_messages(value: Any, image_format: str) -> Conversation:
  """Reads `messages`; raises HttpError that names the message at fault."""
  if not isinstance(value, list) or not value:
    raise bad_request('messages is a list of at least one.', 'messages')
  _check_count(value, 'messages')
  reader = _Reader(image_format)
  for i, message in enumerate(value):
    reader.read(message, f'messages[{i}]')
  return reader.end(f'messages[{len(value) - 1}]')


def read_turns(value: Any) -> Conversation:
  """Reads `turns`, whose texts have slots and whose last one is the query."""
  if not isinstance(value, list) or not value:
    raise bad_request('turns is a list of at least one.', 'turns')
  _check_count(value, 'turns')
  drafts: list[Draft] = []
  images: list[ImageAt] = []
  ignored: list[str] = []
  for i, turn in enumerate(value):
    fields = Fields(turn, f'turns[{i}]', ('text', 'images', 'answer'))
    ignored += fields.ignored
    own = image_urls(fields.get('images'), fields.path('images'))
    images += own
    answer = clean(_text(fields, 'answer'))
    if i == len(value) - 1 and answer:
      raise bad_request(
        'The last turn is the query: leave its answer out.', f'turns[{i}]'
      )
    text = clean(_text(fields, 'text'))
    drafts.append(Draft(text, len(own), answer, f'turns[{i}]'))
  _check_size(drafts, images, 'turns', 'turns')
  return Conversation(tuple(drafts), tuple(images), 'turns', tuple(ignored))


def read_raw(prompt: Any, images: Any) -> Conversation:
  """Reads the `prompt` and the `images` of completions."""
  if isinstance(prompt, list) and len(prompt) == 1:
    prompt = prompt[0]
  if not isinstance(prompt, str):
    raise bad_request(
      'prompt is one text: ask for several one by one, and give no ids of '
      'tokens.',
      'prompt',
    )
  found = image_urls(images, 'images')
  prompt = clean(prompt)
  draft = Draft(prompt, len(found), '', 'prompt')
  _check_size([draft], found, 'prompt', 'images')
  return Conversation((), tuple(found), 'prompt', raw=prompt)


def image_urls(value: Any, where: str) -> list[ImageAt]:
  """A list of URLs; raises HttpError for anything else."""
  listed = [] if value is None else value
  if not isinstance(listed, list):
    raise bad_request(f'{where} is a list of URLs.', where)
  for i, url in enumerate(listed):
    if not isinstance(url, str):
      raise bad_request(f'{where}[{i}] is a URL, as text.', f'{where}[{i}]')
  return [ImageAt(url, f'{where}[{i}]') for i, url in enumerate(listed)]


class _Reader:
  """Collects messages into drafts; `_open` is the user's turn under way."""

  def __init__(self, image_format: str):
    self._format = image_format
    self._drafts: list[Draft] = []
    self._images: list[ImageAt] = []
    self._system: list[str] = []
    self._ignored: list[str] = []
    self._open: _UserTurn | None = None
    self._size = 0  # characters of all parts so far

  def read(self, message: Any, where: str) -> None:
    fields = Fields(message, where, ('role', 'content', 'name'))
    self._ignored += fields.ignored
    role = fields.get('role')
    if role not in _ROLES:
      raise bad_request(
        f'{where}.role is one of {", ".join(_ROLES)}.', f'{where}.role'
      )
    parts = _parts(fields, self._ignored)
    self._count(parts)
    if role == 'user':
      if self._open is None:
        self._open = _UserTurn(self._format, where)
      self._open.begin_message()
      for part in parts:
        self._open.add(part)
        if isinstance(part, ImageAt):
          self._images.append(part)
      return
    for part in parts:
      if isinstance(part, ImageAt):
        raise bad_request(
          f'An image stands in a message of the {role}: put it into one of '
          'the user.',
          part.param,
        )
    text = '\n'.join(part for part in parts if isinstance(part, str))
    if role != 'assistant':
      self._system.append(text)
    elif self._open is not None:
      self._close(text)
    elif self._drafts:  # the assistant goes on
      last = self._drafts[-1]
      answer = f'{last.answer}\n{escape(text)}'
      self._drafts[-1] = dataclasses.replace(last, answer=answer)
    else:
      raise bad_request(
        'The assistant speaks first: a demonstration is a message of the user '
        'and then one of the assistant.',
        where,
      )

  def _count(self, parts: 'Sequence[str | ImageAt]') -> None:
    """Judges the sizes before parts are joined, which takes long for many."""
    texts = [part for part in parts if isinstance(part, str)]
    self._size += sum(map(len, texts))
    if self._size > MAX_TEXT:
      raise _too_long(self._size, 'messages')
    images = len(self._images) + len(parts) - len(texts)
    if images > MAX_IMAGES:
      raise _too_many(images, 'messages')

  def end(self, where: str) -> Conversation:
    if self._open is None:
      raise bad_request(
        'The last message must be of the user: it is the question.', where
      )
    self._close('')
    if self._system:
      first = self._drafts[0]
      text = escape('\n'.join(self._system))
      if first.text:
        text = f'{text}\n{first.text}'
      self._drafts[0] = dataclasses.replace(first, text=text)
    _check_size(self._drafts, self._images, 'messages', 'messages')
    return Conversation(
      tuple(self._drafts),
      tuple(self._images),
      'messages',
      tuple(self._ignored),
    )

  def _close(self, answer: str) -> None:
    assert self._open is not None
    turn, self._open = self._open, None
    draft = Draft(turn.text(), turn.images, escape(answer), turn.param)
    if self._drafts and not self._drafts[-1].answer.strip():
      raise bad_request(
        'This message of the user has an empty answer of the assistant after '
        'it: a demonstration needs an answer.',
        self._drafts[-1].param,
      )
    self._drafts.append(draft)


class _UserTurn:
  """The text of a user's turn with the slots of its images."""

  def __init__(self, image_format: str, param: str):
    self._format, self.param = image_format, param
    self.images = 0
    self._text = ''
    self._after_text = False

  def begin_message(self) -> None:
    """Messages in a row are separate lines."""
    if self._text and not self._text.endswith('\n'):
      self._text += '\n'
    self._after_text = False

  def add(self, part: 'str | ImageAt') -> None:
    if isinstance(part, str):
      if self._after_text and not self._text.endswith('\n'):
        self._text += '\n'  # as other servers join two texts
      self._text += escape(part)
      self._after_text = True
      return
    self._after_text = False
    index, self.images = self.images, self.images + 1
    if self._format == 'declare':
      return  # a Turn without slots has its images declared in front
    begins = not self._text or self._text.endswith('\n')
    if self._format == 'auto' and begins:
      self._text += f'image {{{index}}} is {{image}}.\n'
      return
    if self._text.endswith('{'):
      self._text += ' '  # '{' and '{image}' would be an escaped slot
    self._text += '{image}'

  def text(self) -> str:
    return self._text


def _parts(fields: Fields, ignored: list[str]) -> list[str | ImageAt]:
  """A message's texts and images, in their order.

  ignored: gets the paths of fields that mean nothing.
  """
  content, where = fields.get('content'), fields.path('content')
  if isinstance(content, str):
    return [_plain(content, where)]
  if not isinstance(content, list):
    raise bad_request(f'{where} is a text or a list of parts.', where)
  found: list[str | ImageAt] = []
  for i, part in enumerate(content):
    path = f'{where}[{i}]'
    kind = part.get('type') if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == 'text':
      text = part.get('text')
      ignored += Fields(part, path, ('type', 'text')).ignored
      if not isinstance(text, str):
        raise bad_request(f'{path}.text is a text.', path)
      found.append(_plain(text, path))
    elif isinstance(part, dict) and kind == 'image_url':
      url = part.get('image_url')
      ignored += Fields(part, path, ('type', 'image_url')).ignored
      if isinstance(url, dict):
        own = Fields(url, f'{path}.image_url', ('url', 'detail'))
        ignored += own.ignored
        url = own.get('url')
      if not isinstance(url, str):
        raise bad_request(f'{path}.image_url.url is a URL, as text.', path)
      found.append(ImageAt(url, path))
    else:
      raise bad_request(
        f'{path} has a type that is not read: give "text" or "image_url".',
        path,
      )
  return found


def _plain(text: str, where: str) -> str:
  return unreserved(
    text,
    where,
    'send images as parts of the message, and refer to them as image 0, image '
    '1 and so on',
  )


def _text(fields: Fields, name: str) -> str:
  value = fields.get(name)
  if value is not None and not isinstance(value, str):
    raise fields.wrong(name, 'a text')
  return value or ''


def _check_count(value: Sequence[Any], name: str) -> None:
  if len(value) > MAX_TURNS:
    raise bad_request(
      f'{name} has {len(value)} entries: give at most {MAX_TURNS}.', name
    )


def _too_long(size: int, param: str) -> Exception:
  return bad_request(
    f'{size} or more characters of text: give at most {MAX_TEXT}.', param
  )


def _too_many(count: int, param: str) -> Exception:
  return bad_request(
    f'{count} images: give at most {MAX_IMAGES}.', param, 'too_many_images'
  )


def _check_size(
  drafts: Sequence[Draft],
  images: Sequence[ImageAt],
  param: str,
  images_param: str,
) -> None:
  """Raises HttpError; the params are those of too much text or images."""
  size = sum(len(draft.text) + len(draft.answer) for draft in drafts)
  if size > MAX_TEXT:
    raise _too_long(size, param)
  if len(images) > MAX_IMAGES:
    raise _too_many(len(images), images_param)
