"""Sample ratio: do the arm sizes fit random assignment? If not, the cause of the mismatch may also cause the effect.

In: the arms of the exposed viewers in the order of exposure. Out: two p-values.
Invariant: `p_value` is valid after every viewer: with random assignment it ever falls below p with probability at most
p. This does not hold for a chi-square test, which is given because it is well known.

The always-valid one is a Bayes factor: a share drawn from a beta distribution around the expected share, against the
expected share. Source: M. Lindon, A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022.
"""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.experiments.report import SampleRatio

# The usual bound, which is strict: assignment by a hash has no small errors.
BROKEN_BELOW = 0.001
# Counts of the beta distribution: it is most sensitive to shares about 1.6 points from an even one.
_STRENGTH = 1_000.0


def sample_ratio(treated: NDArray[np.bool_], share: float) -> SampleRatio:
    """Compare the arm sizes with the treatment's expected share; there is at least one viewer."""
    size, found = len(treated), int(treated.sum())
    p_value = float(running_p_values(treated, share)[-1])
    return SampleRatio(
        expected_share=share,
        found_share=found / size,
        p_value=p_value,
        chi_square_p=float(chi_square_p(np.array([found]), np.array([size]), share)[0]),
        broken=p_value < BROKEN_BELOW,
    )


def running_p_values(treated: NDArray[np.bool_], share: float) -> Floats:
    """The always-valid p-value after each viewer, which never rises; the last axis is their order."""
    before = np.arange(treated.shape[-1])
    of_treatment = np.cumsum(treated, axis=-1, dtype=np.int64) - treated
    predicted = (_STRENGTH * share + of_treatment) / (_STRENGTH + before)
    factors = np.where(treated, np.log(predicted / share), np.log((1.0 - predicted) / (1.0 - share)))
    evidence = np.maximum.accumulate(np.cumsum(factors, axis=-1), axis=-1)
    p_values: Floats = np.exp(-np.maximum(evidence, 0.0))
    return p_values


def chi_square_p(found: NDArray[np.int64], sizes: NDArray[np.int64], share: float) -> Floats:
    """The p-value of the chi-square test (one degree of freedom) at each size."""
    deviations = np.abs(found - share * sizes) / np.sqrt(sizes * share * (1.0 - share))
    return np.array([erfc(deviation / sqrt(2.0)) for deviation in deviations.ravel()]).reshape(deviations.shape)
