"""A model that is slow because of what it computes, not because of which processor computes it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from reference_system.proofs.bad_models.onnx_slow_model import slowed
from reference_system.proofs.bad_models.onnx_tiny_bundle import tiny_model, tiny_rows
from reference_system.registry.bundles.onnx_scorer import OnnxScorer

PRODUCTS = 300


def values_beside(rows):
    """Everything that the slow part of the graph computes, by name."""
    model = onnx.load_from_string(slowed(tiny_model(), products=PRODUCTS))
    names = [name for node in model.graph.node for name in node.output if name.startswith("slow_")]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"rows": rows}), strict=True))


@pytest.mark.parametrize("count", [1, 16])
def test_a_slowed_model_gives_the_same_probabilities(count):
    rows = tiny_rows(1)[:count]
    slow, fast = (OnnxScorer(model) for model in (slowed(tiny_model(), products=PRODUCTS), tiny_model()))
    assert slow.score(rows).tolist() == fast.score(rows).tolist()


def test_its_values_neither_shrink_nor_grow_from_the_first_product_to_the_last():
    rows = tiny_rows(1)
    found = values_beside(rows)
    for number in range(PRODUCTS + 1):
        assert found[f"slow_{number}"] == pytest.approx(rows.mean(), rel=1e-3)


def test_many_rows_cost_as_many_products_as_one():
    products = [value for name, value in values_beside(tiny_rows(1)).items() if name.removeprefix("slow_").isdigit()]
    assert {value.shape for value in products} == {(1, 512)}
    assert len(products) == PRODUCTS + 1


def test_a_slowed_model_takes_no_rows_as_the_model_does():
    assert OnnxScorer(slowed(tiny_model(), products=2)).score(np.zeros((0, 3), np.float32)).shape == (0,)
