"""Candidates of a question: the same for all questions, or each its own."""

from collections.abc import Sequence

from mmicl_jax.context.turns import listed
from mmicl_jax.errors import UserError, check_type


def candidate_lists(
  candidates: str | Sequence[str] | Sequence[Sequence[str]], count: int
) -> list[list[str]]:
  """One list of candidates for each of `count` queries."""
  given = listed(candidates)
  if all(isinstance(c, str) for c in given):
    if not given:
      raise UserError("candidates is a list of texts, such as ['yes', 'no'].")
    return [list(given)] * count
  if len(given) != count:
    raise UserError(
      f'{len(given)} lists of candidates for {count} queries: give one list '
      'for all, or one for each.'
    )
  lists = [list(listed(own)) for own in given]
  for i, own in enumerate(lists):
    for candidate in own:
      check_type(f'a candidate of query {i}', candidate, str, 'a text')
    if not own:
      raise UserError(f'query {i} has no candidates: give at least one.')
  return lists
