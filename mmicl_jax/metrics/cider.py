"""CIDEr-D, the consensus of a caption with references, as pycocoevalcap has it.

Vedantam, Zitnick and Parikh: arXiv 1411.5726.
"""

import numpy as np

from mmicl_jax.metrics.ngrams import Captions

_SIGMA = 6.0  # of the penalty for another length


def cider(captions: Captions) -> np.ndarray:
  """The score of each image [I], from 0 to 10; the set's is their mean.

  An n-gram weighs less, the more images have it in a reference. Of one image
  all weigh nothing, and the score is 0.
  """
  images = captions.num_images
  image, length = captions.image, captions.length
  penalty = np.exp(-((length[image] - length) ** 2) / (2 * _SIGMA**2))
  total = np.zeros(len(image))
  for ngrams in captions.ngrams:
    weight = np.log(images) - np.log(np.maximum(ngrams.images_with, 1))
    vector = ngrams.count * weight[ngrams.gram]
    norm = np.sqrt(_summed(ngrams.text, vector**2, len(image)))
    both = ngrams.prediction >= 0
    theirs = vector[ngrams.prediction[both]]
    product = np.minimum(theirs, vector[both]) * vector[both]
    same = _summed(ngrams.text[both], product, len(image))
    norms = norm[image] * norm
    total += penalty * np.divide(same, norms, where=norms > 0, out=same)
  summed = _summed(image[images:], total[images:], images)
  num_references = np.bincount(image[images:], minlength=images)
  return 10 * summed / len(captions.ngrams) / num_references


def _summed(
  groups: np.ndarray, values: np.ndarray, num_groups: int
) -> np.ndarray:
  # Of nothing, numpy counts in whole numbers.
  return np.bincount(groups, values, minlength=num_groups).astype(float)
