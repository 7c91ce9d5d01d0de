"""The table of contractions that VQA's normalisers share, and VizWiz's own.

The official table maps 'dont' to "don't", and a word with two apostrophes from
both forms that lack one. So it follows from its corrected words.
"""

# Words with a capital I are left out: they meet lower-case text only.
_CORRECT = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've
it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd
something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all
y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _lacking_one(word: str) -> list[str]:
  """The word without its first apostrophe, without its second, ..."""
  return [word[:i] + word[i + 1 :] for i, c in enumerate(word) if c == "'"]


CONTRACTIONS = {
  wrong: word for word in _CORRECT for wrong in _lacking_one(word)
} | {"somebody'd": 'somebodyd'}


def _curled(word: str) -> str:
  return word.replace("'", '’')


# VizWiz's program has curly apostrophes, but straight ones in a few values ...
_STRAIGHT = ("ain't", "aren't", "can't", "could've", "couldn't", "we've")
_STRAIGHT += ("where's", "who've")
# ... and in two keys.
_STRAIGHT_KEYS = ("couldn'tve", "hadn'tve")
VIZWIZ_CONTRACTIONS = {
  wrong if wrong in _STRAIGHT_KEYS else _curled(wrong): word
  if word in _STRAIGHT
  else _curled(word)
  for wrong, word in CONTRACTIONS.items()
}
