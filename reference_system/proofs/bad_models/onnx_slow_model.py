"""A slow model with correct scores: the same graph with a thousand additional matrix products.

In: ONNX bytes of a model. Out: ONNX bytes that give the same probabilities, slower.
Invariant: many rows cost as many products as one, and the values stay at the mean of the inputs in every product.
Values that shrink become denormal numbers, which some processors compute a hundred times slower.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_WIDTH = 512


def slowed(model: bytes, *, products: int) -> bytes:
    """The model with `products` products of one row with a matrix, whose result does not affect the scores."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    rows = graph.input[0].name
    said = next(each for each in graph.output if len(each.type.tensor_type.shape.dim) == 2)  # noqa: PLR2004 - a matrix
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((1, _WIDTH), np.float32), "slow_first"),
            numpy_helper.from_array(np.full((_WIDTH, _WIDTH), 1 / _WIDTH, np.float32), "slow_each"),
            numpy_helper.from_array(np.zeros((_WIDTH, 2), np.float32), "slow_last"),
        ]
    )
    for node in graph.node:
        node.output[:] = ["slow_said" if name == said.name else name for name in node.output]
        node.input[:] = ["slow_said" if name == said.name else name for name in node.input]
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [rows], ["slow_mean"]),  # of all rows and inputs: shape (1, 1)
            helper.make_node("MatMul", ["slow_mean", "slow_first"], ["slow_0"]),
            *(
                helper.make_node("MatMul", [f"slow_{number}", "slow_each"], [f"slow_{number + 1}"])
                for number in range(products)
            ),
            helper.make_node("MatMul", [f"slow_{products}", "slow_last"], ["slow_nothing"]),
            helper.make_node("Add", ["slow_said", "slow_nothing"], [said.name]),
        ]
    )
    return bytes(proto.SerializeToString())
