"""The edit distance between two texts, on bit vectors."""


def edit_distance(a: str, b: str) -> int:
  """How many characters must be put in, taken out or replaced.

  All rows of a column are computed at once, as bits of two whole numbers that
  hold where the distance rises and falls by one (Myers 1999, Hyyrö 2003).
  """
  if not a:
    return len(b)
  places: dict[str, int] = {}
  for i, character in enumerate(a):
    places[character] = places.get(character, 0) | 1 << i
  every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
  rises, falls, distance = every, 0, len(a)
  for character in b:
    same = places.get(character, 0)
    diagonal = ((((same & rises) + rises) ^ rises) | same | falls) & every
    up = falls | ~(diagonal | rises) & every
    down = rises & diagonal
    if up & last:
      distance += 1
    elif down & last:
      distance -= 1
    up = (up << 1 | 1) & every
    down = down << 1 & every
    rises = down | ~(diagonal | up) & every
    falls = up & diagonal
  return distance
