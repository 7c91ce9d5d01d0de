"""All datasets that can be built, by name."""

from mmicl_jax.data.build.catalog import Dataset
from mmicl_jax.data.build.sets import (
  captions,
  choices,
  classes,
  coco,
  dialogs,
  mic_release,
  pairs,
  refcoco,
  text_vqa,
  vcr,
  videos,
  vl_icl,
  vqa,
  websrc,
  wikiart,
)
from mmicl_jax.errors import UserError

_SETS = (
  captions, coco, videos, vqa, text_vqa, wikiart, refcoco, vcr, pairs, classes,
  dialogs, choices, websrc, vl_icl, mic_release,
)  # fmt: skip
DATASETS: dict[str, Dataset] = {
  dataset.name: dataset for one in _SETS for dataset in one.DATASETS
}


def dataset_of(name: str) -> Dataset:
  """Raises UserError for an unknown name."""
  if name not in DATASETS:
    raise UserError(
      f'--dataset {name}: unknown; mmicl data build --list shows all of them'
    )
  return DATASETS[name]
