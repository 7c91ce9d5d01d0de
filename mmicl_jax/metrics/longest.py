r"""A scanner of regular expressions in which the longest match wins.

Python's `re` takes the first alternative that matches. Generated scanners take
the longest match of all rules and, of equally long ones, the earlier rule: the
Penn Treebank tokenizer is defined so. Here the rules become one automaton,
whose states are made when a text first needs them.

Notation: | ? * + {m,n} ( ) as usual. A letter stands for both of its cases,
but in brackets for itself only; [^] is any character. \L, \M and \N, also in
brackets, are the sets that the table's owner names. Any other character after
a backslash stands for itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

# JFlex, which made the tokenizer, lets a letter match whatever turns into it in
# upper or lower case.
_CASES = {'s': 'ſ', 'k': 'K', 'i': 'İı'}
_TOKEN = re.compile(r'\[(?:\\.|[^\]\\])*\]|\{\d+,\d+\}|\\.|.', re.DOTALL)
_MANY = {'?': (0, 1), '*': (0, None), '+': (1, None)}

# ('set', text in brackets), ('seq' or 'alt', nodes), ('rep', node, low, high)
Node = tuple
Contains = Callable[[str], bool]


class ScanRule(NamedTuple):
  """A pattern, and a second one for what must follow.

  What follows is no part of the match, but counts when lengths are compared.
  back: so many characters at the end of the match are left for the next one.
  """

  name: str
  pattern: str
  then: str = ''
  back: int = 0


def pattern_tree(pattern: str) -> Node:
  """The tree of a pattern. Raises ValueError at a bracket without a partner."""
  tokens = ['', *reversed(_TOKEN.findall(pattern))]  # the next one is the last
  tree = _alternatives(tokens)
  if tokens[-1]:
    raise ValueError(f'{tokens[-1]!r} has no partner in {pattern!r}.')
  return tree


def _alternatives(tokens: list[str]) -> Node:
  nodes = [_sequence(tokens)]
  while tokens[-1] == '|':
    tokens.pop()
    nodes.append(_sequence(tokens))
  return ('alt', nodes)


def _sequence(tokens: list[str]) -> Node:
  nodes = []
  while tokens[-1] not in ('', '|', ')'):
    node = _atom(tokens)
    while tokens[-1] in _MANY or (tokens[-1][:1] == '{' and tokens[-1][1:]):
      token = tokens.pop()
      numbers = re.findall(r'\d+', token)
      low, high = map(int, numbers) if numbers else _MANY[token]
      node = ('rep', node, low, high)
    nodes.append(node)
  return ('seq', nodes)


def _atom(tokens: list[str]) -> Node:
  token = tokens.pop()
  if token == '(':
    node = _alternatives(tokens)
    if tokens.pop() != ')':
      raise ValueError('A parenthesis stays open.')
    return node
  if token[0] == '[' and len(token) > 1:
    return ('set', token)
  cases = token.lower() + token.upper() + _CASES.get(token.lower(), '')
  return ('set', f'[{token if len(token) > 1 else cases}]')


class CharSet:
  """What a set in brackets holds; `named` says what L, M and N are."""

  def __init__(self, text: str, named: Mapping[str, Contains]):
    self._negated = text.startswith('[^')
    self._named, self._single, self._ranges = [], set(), []
    items = re.findall(r'\\.|.', text[1 + self._negated : -1], re.DOTALL)
    at = 0
    while at < len(items):
      item = items[at][-1]
      if len(items[at]) > 1 and item in named:
        self._named.append(named[item])
      elif items[at + 1 : at + 2] == ['-'] and at + 2 < len(items):
        self._ranges.append((item, items[at + 2][-1]))
        at += 2
      else:
        self._single.add(item)
      at += 1

  def __contains__(self, char: str) -> bool:
    return self._negated != (
      char in self._single
      or any(low <= char <= high for low, high in self._ranges)
      or any(one(char) for one in self._named)
    )


class _State:
  """A state of the automaton, and those after it as far as they are known."""

  def __init__(self, rule: int | None):
    self.rule = rule
    self.after: dict[int, _State | None] = {}


class Scanner:
  """Cuts a text by rules; every position needs a rule that matches there."""

  def __init__(self, rules: Sequence[ScanRule], named: Mapping[str, Contains]):
    self.rules = rules
    self._named = named
    self._sets: dict[str, int] = {}
    self._char_sets: list[CharSet] = []
    # Of the automaton that is not deterministic: free steps, steps by a set.
    self._free: list[list[int]] = []
    self._steps: list[list[tuple[int, int]]] = []
    self._ends: dict[int, int] = {}
    first = self._new()
    for i, rule in enumerate(rules):
      end = self._add(pattern_tree(rule.pattern), first)
      if rule.then:
        end = self._add(pattern_tree(rule.then), end)
      self._ends[end] = i
    # Of the deterministic one: characters that no set tells apart are a kind.
    self._kinds: dict[tuple[int, ...], int] = {}
    self._members: list[frozenset[int]] = []
    self._kind_of: dict[str, int] = {}
    self._states: dict[frozenset[int], _State] = {}
    self._parts: dict[_State, frozenset[int]] = {}
    self._start = self._state({first})
    # Both patterns of a rule alone, to find where what must follow begins.
    self._halves = {
      i: (
        Scanner([ScanRule('', rule.pattern)], named),
        Scanner([ScanRule('', rule.then)], named),
      )
      for i, rule in enumerate(rules)
      if rule.then
    }

  def scan(self, text: str) -> Iterator[tuple[str, str]]:
    """The rule's name and the text of each match, one after the other."""
    at = 0
    while at < len(text):
      number, end = self._longest(text, at)
      if number is None:
        raise ValueError(f'No rule for {text[at]!r}.')
      if number in self._halves:
        end = self._cut(number, text, at, end)
      end -= self.rules[number].back
      yield self.rules[number].name, text[at:end]
      at = end

  def ends(self, text: str, at: int) -> list[int]:
    """Where a match that begins at `at` may end."""
    state, found = self._start, []
    for i in range(at, len(text)):
      state = self._next(state, text[i])
      if state is None:
        break
      if state.rule is not None:
        found.append(i + 1)
    return found

  def _longest(self, text: str, at: int) -> tuple[int | None, int]:
    """The rule of the longest match, None if there is none, and its end."""
    # _next is written out here, where every character of a text passes.
    state, rule, end = self._start, None, at
    kind_of, kind = self._kind_of, self._kind
    for i in range(at, len(text)):
      char = text[i]
      key = kind_of[char] if char in kind_of else kind(char)
      after = state.after
      state = after[key] if key in after else self._step(state, key)
      if state is None:
        break
      if state.rule is not None:
        rule, end = state.rule, i + 1
    return rule, end

  def _cut(self, number: int, text: str, at: int, end: int) -> int:
    """Where what must follow begins: as late as it can."""
    pattern, then = self._halves[number]
    return max(
      cut for cut in pattern.ends(text, at) if end in then.ends(text, cut)
    )

  def _next(self, state: _State, char: str) -> _State | None:
    """The state after a character; None: no rule can match any more."""
    kind = self._kind(char)
    if kind not in state.after:
      return self._step(state, kind)
    return state.after[kind]

  def _kind(self, char: str) -> int:
    """The number of a character's kind."""
    if char not in self._kind_of:
      members = tuple(
        i for i, chars in enumerate(self._char_sets) if char in chars
      )
      kind = self._kinds.setdefault(members, len(self._kinds))
      if kind == len(self._members):
        self._members.append(frozenset(members))
      self._kind_of[char] = kind
    return self._kind_of[char]

  def _step(self, state: _State, kind: int) -> _State | None:
    """Makes the state after a character of a kind, and remembers it."""
    members = self._members[kind]
    reached = {
      end
      for part in self._parts[state]
      for key, end in self._steps[part]
      if key in members
    }
    state.after[kind] = self._state(reached) if reached else None
    return state.after[kind]

  def _state(self, parts: set[int]) -> _State:
    """The state that stands for these parts and those free to reach."""
    waiting = list(parts)
    while waiting:
      for other in self._free[waiting.pop()]:
        if other not in parts:
          parts.add(other)
          waiting.append(other)
    key = frozenset(parts)
    if key not in self._states:
      rules = [self._ends[part] for part in parts if part in self._ends]
      self._states[key] = state = _State(min(rules, default=None))
      self._parts[state] = key
    return self._states[key]

  def _new(self) -> int:
    """One more part of the automaton."""
    self._free.append([])
    self._steps.append([])
    return len(self._free) - 1

  def _add(self, node: Node, start: int) -> int:
    """Adds a tree that begins in `start`; returns the part where it ends."""
    kind, *rest = node
    if kind == 'seq':
      for one in rest[0]:
        start = self._add(one, start)
      return start
    end = self._new()
    if kind == 'set':
      if rest[0] not in self._sets:
        self._sets[rest[0]] = len(self._char_sets)
        self._char_sets.append(CharSet(rest[0], self._named))
      self._steps[start].append((self._sets[rest[0]], end))
    elif kind == 'alt':
      for one in rest[0]:
        begin = self._new()
        self._free[start].append(begin)
        self._free[self._add(one, begin)].append(end)
    else:
      one, low, high = rest
      for _ in range(low):
        start = self._add(one, start)
      if high is None:
        again = self._new()
        self._free[start].append(again)
        self._free[self._add(one, again)].append(again)
        self._free[again].append(end)
      else:
        for _ in range(high - low):
          self._free[start].append(end)
          start = self._add(one, start)
        self._free[start].append(end)
    return end
