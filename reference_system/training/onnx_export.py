"""The last steps of a model's graph: from what an estimator says to a calibrated probability.

In: a converted model or the numbers of a logistic regression, a calibration. Out: ONNX bytes with one output
`probabilities`, float32 [n, 2].
Invariant: the steps are those of `Calibration.apply`, in double precision; only the answer is rounded to float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reference_system.arrays import Floats
from reference_system.training.evaluation.calibration import MARGIN, Calibration

_OUTPUT = "probabilities"
_ROWS, _SCORE = "rows", "score"
_OPSET, _IR = 17, 8


def with_calibration(model: ModelProto, probabilities: str, calibration: Calibration | None) -> bytes:
    """The model with its probabilities calibrated.

    Args:
        model: a converted estimator that takes double rows: in float32 the votes of many trees add up to 1e-6 less.
        probabilities: the name of its output [n, 2].
        calibration: what is written behind it.
    """
    graph = model.graph
    (given,) = graph.input
    width = given.type.tensor_type.shape.dim[1].dim_value
    graph.node.insert(0, helper.make_node("Cast", [_ROWS], [given.name], to=TensorProto.DOUBLE))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(_ROWS, TensorProto.FLOAT, [None, width]))
    if probabilities == _OUTPUT:
        probabilities = "estimated"
        _rename(graph, _OUTPUT, probabilities)
    _constants(graph, {"second_class": np.array([1])})
    graph.node.append(helper.make_node("Gather", [probabilities, "second_class"], ["of_class_1"], axis=1))
    graph.node.append(helper.make_node("Cast", ["of_class_1"], [_SCORE], to=TensorProto.DOUBLE))
    _finish(graph, _SCORE, calibration)
    return bytes(model.SerializeToString())


def logistic(weights: Floats, intercept: float, calibration: Calibration | None) -> bytes:
    """A logistic regression on rows as they come, shape of the weights (width,); in double, for rows of any size."""
    graph = GraphProto(name="logistic_regression")
    graph.input.append(helper.make_tensor_value_info(_ROWS, TensorProto.FLOAT, [None, len(weights)]))
    _constants(graph, {"weights": weights[:, None].astype(np.float64), "intercept": np.array([intercept])})
    graph.node.extend(
        [
            helper.make_node("Cast", [_ROWS], ["wide_rows"], to=TensorProto.DOUBLE),
            helper.make_node("MatMul", ["wide_rows", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "intercept"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], [_SCORE]),
        ]
    )
    _finish(graph, _SCORE, calibration)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def _finish(graph: GraphProto, score: str, calibration: Calibration | None) -> None:
    if calibration is not None:
        _constants(
            graph,
            {
                "kept": np.array([1.0 - 2.0 * MARGIN]),
                "margin": np.array([MARGIN]),
                "slope_a": np.array([calibration.a]),
                "slope_b": np.array([calibration.b]),
                "shift": np.array([calibration.c]),
            },
        )
        graph.node.extend(_calibrating(score, "calibrated"))
        score = "calibrated"
    _constants(graph, {"all": np.array([1.0], np.float32)})
    graph.node.extend(
        [
            helper.make_node("Cast", [score], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["all", "one"], ["zero"]),
            helper.make_node("Concat", ["zero", "one"], [_OUTPUT], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, [None, 2]))


def _calibrating(score: str, calibrated: str) -> list[NodeProto]:
    steps = [
        ("Mul", [score, "kept"], "narrowed"),
        ("Add", ["narrowed", "margin"], "drawn_in"),
        ("Log", ["drawn_in"], "log_of_1"),
        ("Mul", ["log_of_1", "slope_a"], "term_a"),
        ("Neg", ["drawn_in"], "negative"),
        ("Add", ["negative", "unit"], "other"),
        ("Log", ["other"], "log_of_0"),
        ("Mul", ["log_of_0", "slope_b"], "term_b"),
        ("Sub", ["term_a", "term_b"], "bent"),
        ("Add", ["bent", "shift"], "calibrated_logit"),
        ("Sigmoid", ["calibrated_logit"], calibrated),
    ]
    unit = helper.make_node("Constant", [], ["unit"], value=numpy_helper.from_array(np.array([1.0])))
    return [unit, *(helper.make_node(kind, given, [out]) for kind, given, out in steps)]


def _constants(graph: GraphProto, arrays: dict[str, NDArray[np.generic]]) -> None:
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())


def _rename(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
