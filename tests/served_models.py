"""Small real bundles for tests of serving: logistic models through ONNX, written and verified as training does it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from reference_system.event_time import micros
from reference_system.registry.bundles.bundle import (
    BundleManifest,
    DataWindow,
    Golden,
    ReviewThresholds,
    set_current,
    version_folder,
    write_bundle,
)
from reference_system.registry.bundles.catalogue import BundleCatalogue
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.serving.fraud.scoring import FraudModel
from reference_system.serving.recommendation.catalogue import RankerModel
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.policy import Thresholds
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.use_cases.recommendation.model import Neighbours
from reference_system.windows import Tail, View, WindowedView, empty_tail, extend

KNOWN_UNTIL = datetime(2025, 3, 1, tzinfo=UTC)


@cache
def linear_model(width: int, seed: int) -> bytes:
    """A logistic regression with random weights, as ONNX."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(200, width)).astype(np.float32)
    model = LogisticRegression().fit(rows, (rows @ rng.normal(size=width) > 0).astype(int))
    model.coef_ *= 0.05  # amounts and counts are large: keep the scores away from 0 and 1
    model_bytes: bytes = to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString()
    return model_bytes


def _write(
    root: Path, use_case: str, version: str, inputs: Sequence[str], *, catalogue: BundleCatalogue | None
) -> Path:
    model = linear_model(len(inputs), int(version))
    rows = np.random.default_rng(5).normal(size=(8, len(inputs))).astype(np.float32)
    manifest = BundleManifest(
        use_case=use_case,
        model_version=version,
        estimator="logistic_regression",
        inputs=tuple(inputs),
        created_timestamp=KNOWN_UNTIL,
        data_window=DataWindow(start=KNOWN_UNTIL - timedelta(days=28), end=KNOWN_UNTIL),
        metrics={"average_precision": 0.5},
        files={},
        thresholds=ReviewThresholds(review=0.6, block=0.9) if use_case == "fraud" else None,
        usual=tuple(10.0 for _ in inputs) if use_case == "fraud" else None,
    )
    golden = Golden(inputs=rows, scores=OnnxScorer(model).score(rows).astype(np.float32))
    folder = version_folder(root, use_case, version)
    write_bundle(folder, manifest, model=model, golden=golden, catalogue=catalogue)
    set_current(root, use_case, version)
    return folder


def write_fraud_bundle(root: Path, version: str = "1") -> Path:
    """A fraud bundle, made current."""
    return _write(root, "fraud", version, fraud.INPUTS, catalogue=None)


def small_catalogue(count: int) -> BundleCatalogue:
    """Videos `v0 …`, one a day until `KNOWN_UNTIL`; each has the next two as neighbours; the first is most popular."""
    place = np.arange(count)
    days = timedelta(days=1)
    return BundleCatalogue(
        video_ids=np.array([f"v{i}" for i in place]),
        categories=(place % len(CATEGORIES)).astype(np.int64),
        durations=np.full(count, 600.0),
        published=np.array([micros(KNOWN_UNTIL - days * int(count - i)) for i in place]),
        neighbour_items=np.column_stack([(place + 1) % count, (place + 2) % count]).astype(np.int64),
        neighbour_similarities=np.tile([0.9, 0.4], (count, 1)),
        factors=np.eye(count, dtype=np.float32)[:, [13, 7]] if count > 13 else np.zeros((count, 2), np.float32),
        popular=place.astype(np.int64),
    )


def write_recommendation_bundle(root: Path, version: str = "1", *, videos: int = 40) -> Path:
    """A recommendation bundle, made current."""
    return _write(root, "recommendation", version, recommendation.INPUTS, catalogue=small_catalogue(videos))


class States(dict[tuple[str, str], tuple[bytes, int]]):
    """States by view name and key, read as the online store is read."""

    def __call__(self, view: View | tuple[View, ...], keys: Sequence[str]) -> list[tuple[bytes | None, int | None]]:
        views = view if isinstance(view, tuple) else (view,) * len(keys)
        return [self.get((each.name, key), (None, None)) for each, key in zip(views, keys, strict=True)]

    def put(self, view: View, key: str, state: bytes, moment: datetime) -> None:
        self[view.name, key] = (state, micros(moment))

    def put_rows(self, view: WindowedView, key: str, rows: Sequence[tuple[datetime, dict[str, float]]]) -> Tail:
        """A tail of these rows; returns it."""
        times = np.array([micros(moment) for moment, _ in rows], np.int64)
        values = np.array([[row.get(name, 0.0) for name in view.columns] for _, row in rows])
        tail = extend(view, empty_tail(view), times, values)
        self.put(view, key, tail.pack(), max(moment for moment, _ in rows))
        return tail


def fraud_model_for_tests(version: str = "1") -> FraudModel:
    """The model of `write_fraud_bundle`, without the files."""
    return FraudModel(
        version=version,
        known_until=KNOWN_UNTIL,
        scorer=OnnxScorer(linear_model(len(fraud.INPUTS), int(version))).score,
        thresholds=Thresholds(review=0.6, block=0.9),
        usual=np.full(len(fraud.INPUTS), 10.0),
    )


def ranker_model_for_tests(version: str = "1", *, videos: int = 40) -> RankerModel:
    """The model of `write_recommendation_bundle`, without the files."""
    found = small_catalogue(videos)
    return RankerModel(
        version=version,
        known_until=KNOWN_UNTIL,
        scorer=OnnxScorer(linear_model(len(recommendation.INPUTS), int(version))).score,
        video_ids=tuple(found.video_ids.tolist()),
        categories=found.categories,
        durations=found.durations,
        published=found.published,
        neighbours=Neighbours(items=found.neighbour_items, similarities=found.neighbour_similarities),
        vectors=found.factors,
        popular=tuple(found.popular.tolist()),
    )
