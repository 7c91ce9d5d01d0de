"""Flickr30k and DiffusionDB: a picture and what was written for it."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  the_file,
)
from mmicl_jax.data.build.items import PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import answered, each, field
from mmicl_jax.data.build.sets.coco import karpathy
from mmicl_jax.data.build.tree import Tree


def _flickr_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [annotation('dataset_flickr30k.json')]


def _flickr(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)
  folders = tree.folders('flickr30k-images', 'flickr30k_images', 'images')

  def find(tree: Tree, image: Any) -> tuple[PictureRef, str]:
    name = field(image, 'filename')
    return PictureRef(tree.picture(folders, name)), name.removesuffix('.jpg')

  return karpathy(tree, path, split, find)


def _diffusion_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [annotation('images', 'part-000001', 'diffusiondb-large-part-1')]


def _diffusion(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """All parts that are there, by their numbers."""
  del split, settings, paths
  parts = tree.below('', 'part-*.json')
  if not parts:
    tree.need('images/part-000001/part-000001.json')
  rows = [
    (f'{path}[{i}]', (path, name, value))
    for path in parts
    for i, (name, value) in enumerate(tree.mapped(path).items())
  ]

  def make(row: Any) -> SourceItem:
    path, name, value = row
    prompt = answered(value, 'p').strip()
    picture = PictureRef(tree.picture([os.path.dirname(path)], name))
    return SourceItem(name, name, {}, (picture,), (prompt,))

  return each(rows, make, lambda row: row[1])


DATASETS = (
  Dataset(
    'flickr30k',
    'captioning',
    'train',
    'dataset_flickr30k.json (Karpathy), flickr30k-images/*.jpg',
    'https://shannon.cs.illinois.edu/DenotationGraph',
    'research only, by request',
    ('train', 'val', 'test'),
    'caption',
    _flickr_files,
    _flickr,
    shots=5,
  ),
  Dataset(
    'diffusiondb',
    'captioning',
    'train',
    'images/part-000001/{part-000001.json, *.png}, and more parts',
    'https://huggingface.co/datasets/poloclub/diffusiondb',
    'CC0 1.0',
    ('train',),
    'caption',
    _diffusion_files,
    _diffusion,
    shots=5,
  ),
)
