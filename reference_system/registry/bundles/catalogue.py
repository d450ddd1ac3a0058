"""The catalogue in a bundle: what the recommender knows of the videos.

In: the bytes of `catalogue.npz`. Out: a `BundleCatalogue`, or `BundleRefused` with the array that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.errors import BundleRefused
from reference_system.registry.bundles.npz_arrays import unpacked

# What each array holds (numpy's letters: text, whole numbers, numbers), and how many dimensions it has.
_KINDS = {
    "video_ids": ("U", 1),
    "categories": ("i", 1),
    "durations": ("f", 1),
    "published": ("i", 1),
    "neighbour_items": ("i", 2),
    "neighbour_similarities": ("f", 2),
    "factors": ("f", 2),
    "popular": ("i", 1),
}
_PER_VIDEO = ("categories", "durations", "published", "neighbour_items")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCatalogue:
    """Row i of each array is video i.

    Shapes: (n,), the neighbours (n, k) with -1 where a video has fewer, the factors (n, d) in float32; `popular` lists
    indices, most watched first.
    """

    video_ids: NDArray[np.str_]
    categories: NDArray[np.int64]
    durations: Floats
    published: NDArray[np.int64]
    neighbour_items: NDArray[np.int64]
    neighbour_similarities: Floats
    factors: NDArray[np.float32]
    popular: NDArray[np.int64]


def read_bundle_catalogue(what: str, content: bytes) -> BundleCatalogue:
    """The catalogue that the bytes hold.

    Args:
        what: the file's name in an error message.
        content: its bytes.

    Raises:
        BundleRefused: if an array is missing, or does not fit the others.
    """
    arrays = unpacked(what, content, tuple(BundleCatalogue.__slots__))
    for name, array in arrays.items():
        if (array.dtype.kind, array.ndim) != _KINDS[name]:
            raise BundleRefused(f"{what}: {name} holds {array.dtype} of {array.ndim} dimensions")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleRefused(f"{what}: {name} holds a number that is not finite")
    catalogue = BundleCatalogue(**arrays)  # type: ignore[arg-type]  # the kinds are checked above
    count = len(catalogue.video_ids)
    if not count or any(len(arrays[name]) != count for name in _PER_VIDEO):
        raise BundleRefused(f"{what} does not have one row for each of its {count} videos")
    if catalogue.neighbour_items.shape != catalogue.neighbour_similarities.shape:
        raise BundleRefused(f"{what} does not have one similarity for each neighbour")
    if catalogue.factors.dtype != np.float32 or len(catalogue.factors) != count:
        raise BundleRefused(f"{what} does not have one row of float32 factors for each video")
    for name in ("neighbour_items", "popular"):
        indices = arrays[name]
        if indices.size and (indices.min() < -1 or indices.max() >= count):
            raise BundleRefused(f"{what}: {name} points outside the catalogue")
    return catalogue
