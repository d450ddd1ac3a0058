"""Tiny models and bundles for tests: the real formats, without the seconds that training takes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from reference_system.arrays import Floats32
from reference_system.proofs.bad_models.onnx_tiny_bundle import TINY_INPUTS, tiny_model
from reference_system.registry.bundles.bundle import (
    MANIFEST,
    MANIFEST_DIGEST,
    BundleManifest,
    DataWindow,
    Golden,
    ReviewThresholds,
    version_folder,
    write_bundle,
)
from reference_system.registry.bundles.catalogue import BundleCatalogue

WEIGHTS = np.array([0.5, -0.25, 1.0], np.float32)
ROWS = np.random.default_rng(5).normal(size=(16, len(TINY_INPUTS))).astype(np.float32)


def tiny_scores(rows: Floats32 = ROWS, weights: Floats32 = WEIGHTS) -> Floats32:
    scores: Floats32 = (1.0 / (1.0 + np.exp(-(rows @ weights)))).astype(np.float32)
    return scores


def tiny_catalogue(**changes: Any) -> BundleCatalogue:
    arrays: dict[str, Any] = {
        "video_ids": np.array(["m1", "m2", "m3"]),
        "categories": np.array([0, 1, 2]),
        "durations": np.array([60.0, 120.0, 30.0]),
        "published": np.array([1, 2, 3]),
        "neighbour_items": np.array([[1, -1], [0, -1], [-1, -1]]),
        "neighbour_similarities": np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 0.0]]),
        "factors": np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]], np.float32),
        "popular": np.array([2, 0, 1]),
    }
    return BundleCatalogue(**(arrays | changes))


def tiny_manifest(use_case: str = "fraud", version: str = "1", **changes: Any) -> BundleManifest:
    day = datetime(2025, 3, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "use_case": use_case,
        "model_version": version,
        "estimator": "logistic_regression",
        "inputs": TINY_INPUTS,
        "created_timestamp": day,
        "data_window": DataWindow(start=day, end=day),
        "metrics": {"average_precision": 0.5},
        "files": {},
        "thresholds": ReviewThresholds(review=0.5, block=0.9) if use_case == "fraud" else None,
        "usual": (1.0, 1.0, 1.0) if use_case == "fraud" else None,
    }
    return BundleManifest(**(fields | changes))


def tiny_bundle(
    root: Path,
    use_case: str = "fraud",
    version: str = "1",
    *,
    catalogue: BundleCatalogue | None = None,
    golden: Golden | None = None,
    **changes: Any,
) -> Path:
    """A whole bundle of a tiny model; returns its folder."""
    if use_case == "recommendation" and catalogue is None:
        catalogue = tiny_catalogue()
    return write_bundle(
        version_folder(root, use_case, version),
        tiny_manifest(use_case, version, **changes),
        model=tiny_model(tuple(WEIGHTS)),
        golden=golden or Golden(inputs=ROWS, scores=tiny_scores()),
        catalogue=catalogue,
    )


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """What somebody would do who knows the format: the digest fits again."""
    fields = msgspec.json.decode((folder / MANIFEST).read_bytes()) | changes
    content = msgspec.json.encode(fields)
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(content).hexdigest())


def mend_digests(folder: Path) -> None:
    """The manifest says of the files what they are now."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".onnx", ".npz")}
    rewrite_manifest(folder, files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
