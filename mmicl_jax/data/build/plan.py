"""What was asked for, checked against the dataset before anything is read."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.templates import (
  Templates,
  load_templates,
  own_templates,
)
from mmicl_jax.context.turns import STYLES
from mmicl_jax.data.build.catalog import Dataset, Wanted
from mmicl_jax.data.build.nearest import PictureVectors
from mmicl_jax.data.build.shards import shard_writer
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError

FORMATS = ('jsonl', 'array_record')
RETRIEVALS = ('question', 'image')
MAX_SHOTS = 19  # the names of images leave room for no more


@dataclasses.dataclass(frozen=True)
class Plan:
  """A build: a dataset, its files, and all that decides the records' bytes.

  splits: None is every split that is there and has answers. templates_path: a
  file of forms in the place of the dataset's own; forms: the forms themselves.
  limit: so many records of each split. retrieve: by what demonstrations are
  chosen, None if they are drawn; vectors: of pictures, to compare them.
  max_bad: the share of items that may be bad.
  """

  dataset: Dataset
  tree: Tree
  out: Path
  splits: tuple[str, ...] | None = None
  shots: int | None = None
  seed: int = 0
  templates_path: str | None = None
  forms: tuple[str, ...] | None = None
  style: str = 'plain'
  format: str = 'jsonl'
  limit: int | None = None
  settings: dict[str, str] = dataclasses.field(default_factory=dict)
  max_bad: float = 0.5
  retrieve: str | None = None
  vectors: PictureVectors | None = None

  def __post_init__(self):
    d = self.dataset
    for name, value in self.settings.items():
      if name not in d.settings:
        have = ', '.join(d.settings) or 'none'
        raise UserError(
          f'--set {name}={value}: {d.name} has no such setting (it has {have})'
        )
      if d.settings[name] and value not in d.settings[name]:
        raise UserError(
          f'--set {name}={value}: choose {" or ".join(d.settings[name])}'
        )
    d = d.found_in(self.tree, self.all_settings)
    object.__setattr__(self, 'dataset', d)
    known = (*d.splits, *d.unlabelled)
    for split in self.splits or ():
      if split not in known:
        raise UserError(
          f'{d.name} has no split {split!r}: name one of {", ".join(known)}'
        )
    if self.splits is not None:
      # One order, so that one build has one manifest.
      named = tuple(split for split in known if split in self.splits)
      object.__setattr__(self, 'splits', named)
    if self.splits == ():
      raise UserError(f'--splits names none: choose of {", ".join(known)}')
    if self.style not in STYLES:
      raise UserError(f'--style {self.style}: choose {" or ".join(STYLES)}')
    if self.format not in FORMATS:
      raise UserError(f'--format {self.format}: choose {" or ".join(FORMATS)}')
    if self.format == 'array_record':
      shard_writer()  # before hours of work
    if self.retrieve not in (None, *RETRIEVALS):
      raise UserError(
        f'--retrieve {self.retrieve}: choose {" or ".join(RETRIEVALS)}'
      )
    if (self.retrieve == 'image') != (self.vectors is not None):
      raise UserError(
        '--retrieve image compares pictures by a model, and nothing else does: '
        'give --checkpoint there'
      )
    if not 0 <= self.most_shots <= MAX_SHOTS:
      raise UserError(f'--shots {self.shots}: give 0 to {MAX_SHOTS}')
    if self.limit is not None and self.limit < 1:
      raise UserError(f'--limit {self.limit}: build at least 1 record')
    if not 0 <= self.max_bad <= 1:
      raise UserError(f'--max_bad {self.max_bad}: give a share from 0 to 1')

  @property
  def most_shots(self) -> int:
    return self.dataset.shots if self.shots is None else self.shots

  @property
  def all_settings(self) -> dict[str, str]:
    """Every setting of the dataset, given or by default."""
    return self.dataset.default_settings | self.settings

  @property
  def _retrieval(self) -> str:
    model = f' by {self.vectors.name}' if self.vectors else ''
    return f'{self.retrieve}{model}'

  def templates(self, split: str) -> Templates | None:
    """The forms of a split. Raises UserError for a file that holds none."""
    name = self.dataset.template_of(split, self.all_settings)
    if name is None:
      return None
    if self.forms is not None:
      return own_templates(self.forms, ('question', 'options'))
    return load_templates(self.templates_path or name)

  def chosen(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits to build, and those left out for want of answers.

    Raises UserError, naming the first file that is missing, for a split that is
    not there or not whole.
    """
    if self.splits is not None:
      chosen, without = self.splits, ()
    else:
      chosen = tuple(s for s in self.dataset.splits if self._is_there(s))
      without = tuple(s for s in self.dataset.unlabelled if self._is_there(s))
      chosen = chosen or self.dataset.splits[:1]
    for split in chosen:
      self.annotations(split)
    return chosen, without

  def annotations(self, split: str) -> list[str | None]:
    """Where the annotation files of a split are; None for optional ones.

    Raises UserError if one is missing.
    """
    files = self.dataset.files(split, self.all_settings)
    return [
      self.tree.find(*file.names)
      if file.optional
      else self.tree.need(*file.names)
      for file in files
    ]

  def _is_there(self, split: str) -> bool:
    """Whether any file of its own is: then all of them must be.

    Splits may share files; one that has only such files is there with them.
    """
    needed = self._needed(split)
    shared = {
      file
      for other in (*self.dataset.splits, *self.dataset.unlabelled)
      if other != split
      for file in self._needed(other)
    }
    own = [file for file in needed if file not in shared] or needed
    return any(self.tree.find(*file.names) for file in own)

  def _needed(self, split: str) -> list[Wanted]:
    files = self.dataset.files(split, self.all_settings)
    return [file for file in files if not file.optional]

  def arguments(self, splits: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of the arguments."""
    forms = {t.name: t for s in splits if (t := self.templates(s)) is not None}
    content = '\n\n'.join(
      '\n'.join((*t.fields, '', *t.forms)) for t in forms.values()
    )
    shown = {
      'name': '+'.join(forms),
      'sha256': hashlib.sha256(content.encode()).hexdigest(),
    }
    return {
      'dataset': self.dataset.name,
      'seed': self.seed,
      'shots': self.most_shots,
      'limit': self.limit,
      'style': self.style,
      'output': self.format,
      'settings': self.all_settings,
      'templates': shown if forms else None,
      **({'retrieve': self._retrieval} if self.retrieve else {}),
    }
