"""A tiny bundle in the real format: logistic regression with three inputs, written in a millisecond.

In: a folder, a use case, weights. Out: a bundle that passes every check.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reference_system.registry.bundles.bundle import (
    BundleManifest,
    DataWindow,
    Golden,
    ReviewThresholds,
    version_folder,
    write_bundle,
)
from reference_system.use_case import UseCase

TINY_INPUTS = ("height", "weight", "age")
WEIGHTS = (0.5, -0.25, 1.0)
_DAY = datetime(2025, 3, 1, tzinfo=UTC)
_OPSET, _IR = 17, 8


def tiny_model(weights: tuple[float, ...] = WEIGHTS) -> bytes:
    """Logistic regression with these weights, as ONNX bytes."""
    width = len(weights)
    column = np.array(weights, np.float32)[:, None]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["one"]),
            helper.make_node("Sub", ["all", "one"], ["zero"]),
            helper.make_node("Concat", ["zero", "one"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(column, "weights"), numpy_helper.from_array(np.ones((1, 1), np.float32), "all")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def failing_model() -> bytes:
    """ONNX bytes that ONNX Runtime loads but that fail on every batch: none has the required shape."""
    width = len(TINY_INPUTS)
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["rows", "shape"], ["probabilities"])],
        "failing",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.array([997, 2]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def tiny_rows(seed: int) -> NDArray[np.float32]:
    """Sixteen random rows."""
    return np.random.default_rng(seed).normal(size=(16, len(TINY_INPUTS))).astype(np.float32)


def write_tiny_bundle(root: Path, version: str, *, use_case: UseCase = "fraud", seed: int = 1) -> Path:
    """Write the bundle of a version; returns its folder."""
    rows = tiny_rows(seed)
    scores = (1.0 / (1.0 + np.exp(-(rows @ np.array(WEIGHTS, np.float32))))).astype(np.float32)
    manifest = BundleManifest(
        use_case=use_case,
        model_version=version,
        estimator="logistic_regression",
        inputs=TINY_INPUTS,
        created_timestamp=_DAY,
        data_window=DataWindow(start=_DAY, end=_DAY),
        metrics={"average_precision": 0.5},
        files={},
        thresholds=ReviewThresholds(review=0.5, block=0.9),
        usual=(1.0, 1.0, 1.0),
    )
    golden = Golden(inputs=rows, scores=scores)
    return write_bundle(version_folder(root, use_case, version), manifest, model=tiny_model(), golden=golden)
