"""Sample ratio: did chance make the arms? If not, whatever kept viewers out of one arm also made the difference.

In: the arms of the exposed viewers in the order of exposure. Out: two p-values.
Invariant: `p_value` may be looked at after every viewer: with a fair coin it ever falls below p at most that often. A
chi-square test does not hold that; it is given because people know it.

The always-valid one is a Bayes factor: a share drawn from a beta distribution around the expected one, against the
expected one. Source: M. Lindon, A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022.
"""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.experiments.report import SampleRatio

# Assignment by a hash is never a little wrong: the usual bound is strict.
BROKEN_BELOW = 0.001
# Counts of the beta distribution: shares about 1.6 points beside an even one are what it looks for.
_STRENGTH = 1_000.0


def sample_ratio(treated: NDArray[np.bool_], share: float) -> SampleRatio:
    """Compare the arms' sizes with the share that the treatment was to have; at least one viewer."""
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
    """The always-valid p-value after each viewer, which only falls; the last axis is their order."""
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
