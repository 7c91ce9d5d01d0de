"""What a dataset is to the builder: its names, splits and files.

sets/ declares one Dataset each; DATASETS is the table that the command lists.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError

Settings = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Wanted:
  """An annotation file or folder of a split, under any of its names."""

  names: tuple[str, ...]
  optional: bool = False


def annotation(*names: str) -> Wanted:
  return Wanted(names)


def optional(*names: str) -> Wanted:
  return Wanted(names, optional=True)


def the_file(paths: Sequence[str | None]) -> str:
  """Where the one file of a split is, of which it has no optional ones."""
  [path] = paths
  assert path is not None
  return path


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset that can be built.

  role: 'train', 'held-out' or 'benchmark'. shape: what the official tree should
  be, in one line. splits: those with answers; unlabelled: those without.
  template: the name of its forms, which may depend on split and settings; None
  where items bring their texts. shots:
  demonstrations at most, by default. settings: values that each setting may
  have, the default first; none is any. files: what a split's items are read
  from. items: given the tree, the split, the settings and where those files are
  (None for an optional one that is not there), all items in the official order.
  discover: the names of splits that depend on settings or on the files; none
  means that nothing of the dataset is there.
  """

  name: str
  category: str
  role: str
  shape: str
  source: str
  licence: str
  splits: tuple[str, ...]
  template: str | None | Callable[[str, Settings], str]
  files: Callable[[str, Settings], Sequence[Wanted]]
  items: Callable[
    [Tree, str, Settings, Sequence[str | None]], Iterator[SourceItem | Skip]
  ]
  unlabelled: tuple[str, ...] = ()
  shots: int = 0
  settings: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=dict
  )
  discover: Callable[[Tree, Settings], tuple[str, ...]] | None = None

  def found_in(self, tree: Tree, settings: Settings) -> 'Dataset':
    """The dataset with the splits that it has in a tree. Raises UserError."""
    if self.discover is None:
      return self
    splits = self.discover(tree, settings)
    if not splits:
      raise UserError(
        f'{tree.root}: nothing of {self.name} in it; the tree should be: '
        f'{self.shape}'
      )
    return dataclasses.replace(self, splits=splits, discover=None)

  def template_of(self, split: str, settings: Settings) -> str | None:
    """The name of the forms of a split."""
    if callable(self.template):
      return self.template(split, settings)
    return self.template

  @property
  def default_settings(self) -> dict[str, str]:
    return {
      name: values[0] if values else ''
      for name, values in self.settings.items()
    }

  def listed(self) -> dict[str, str]:
    """A row of the table that `--list` shows."""
    splits = ' '.join(self.splits) or 'as the files are named'
    if self.unlabelled:
      splits += f' ({" ".join(self.unlabelled)})'
    return {
      'dataset': self.name,
      'category': self.category,
      'role': self.role,
      'template': ' '.join(
        dict.fromkeys(
          self.template_of(split, self.default_settings) or ''
          for split in self.splits or ('',)
        )
      ),
      'splits': splits,
      'tree': self.shape,
      'licence': self.licence,
      'source': self.source,
    }
