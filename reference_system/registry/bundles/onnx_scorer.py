"""ONNX Runtime: the one place where a model's bytes become scores.

In: float32 rows. Out: the probability of class 1, float64.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.errors import BundleRefused


class OnnxScorer:
    """A loaded model with one float32 input `[n, width]` and class probabilities `[n, 2]` among its outputs."""

    def __init__(self, model: bytes) -> None:
        """Load the model on one thread.

        Raises:
            BundleRefused: if the bytes are no such model.
        """
        options = onnxruntime.SessionOptions()
        # One row is answered in microseconds: more threads cost more than they bring, and spinning ones cost a core.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised, and need not be printed as well
        try:
            # Its fallback would try a damaged model once more, and print about it.
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # the runtime raises types of its own, with no common base but Exception
            raise BundleRefused(f"model.onnx is not a model that ONNX Runtime loads: {error}") from error
        inputs = self._session.get_inputs()
        outputs = [output.name for output in self._session.get_outputs() if list(output.shape or [])[1:] == [2]]
        shape = list(inputs[0].shape or []) if len(inputs) == 1 and inputs[0].type == "tensor(float)" else []
        if len(shape) != 2 or not isinstance(shape[1], int) or not outputs:  # noqa: PLR2004 - rows and columns
            raise BundleRefused("model.onnx must have one float32 input and an output of two class probabilities")
        self._input = inputs[0].name
        self._outputs = outputs[:1]
        self.width = shape[1]

    def score(self, rows: NDArray[np.float32]) -> Floats:
        """The probability of class 1 for each row; `rows` has shape (n, width)."""
        (probabilities,) = self._session.run(self._outputs, {self._input: rows})
        return np.asarray(probabilities[:, 1], np.float64)
