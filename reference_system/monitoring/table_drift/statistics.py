"""How far a chunk lies from the reference, and how far it would lie by chance.

In: histograms of the reference and of chunks. Out: one statistic for each chunk, and draws of it without drift.
Invariant: without drift a statistic's distribution does not depend on how many rows a chunk has, so that chunks of
different sizes have one threshold.

Numbers: the Anderson-Darling statistic on the fine bins, and half the scaled psi of (number, text, missing), so that
what goes missing counts as much as what moves. Texts, and numbers of few values: psi times nm/(n+m).
Sources: Scholz and Stephens, K-sample Anderson-Darling tests, JASA 1987; Anderson and Darling, Asymptotic theory of
certain goodness of fit criteria, Annals of Mathematical Statistics 1952 (the weighted sum of chi-squares without
drift); Yurdakul, Statistical properties of population stability index, Western Michigan University 2018.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from reference_system.arrays import Floats
from reference_system.monitoring.histograms import Counts, RowCounts, psi
from reference_system.monitoring.table_drift.bins import ColumnBins, NumberBins

_DRAWS = 20_000
_SIMULATED = 4_000
# Below so many expected rows a bin's share of psi is no chi-square any more; it is simulated.
_MANY_ROWS = 10
_EIGENVALUES = 12
# Fewer numbers than this say nothing about their distribution.
_FEWEST = 5
_EVEN = 0.3
_HALF = 0.5
_TAIL = 100
_DECILE = 6


def method_of(bins: ColumnBins) -> str:
    """The statistic's name."""
    return "anderson-darling" if _is_ordered(bins) else "psi"


def statistics(bins: ColumnBins, reference: RowCounts, chunks: RowCounts) -> Floats:
    """The statistic of each chunk, shape (chunks,), of `reference` (bins,) and `chunks` (chunks, bins)."""
    if isinstance(bins, NumberBins) and not bins.few:
        numbers = _anderson_darling(reference[: bins.numbers], chunks[:, : bins.numbers])
        return numbers + _HALF * _scaled_psi(_presence(bins, reference), _presence(bins, chunks))
    return _scaled_psi(reference, chunks)


def scale(reference_rows: int, rows: int) -> float:
    """What psi is multiplied by to be free of the number of rows."""
    return reference_rows * rows / max(reference_rows + rows, 1)


def without_drift(bins: ColumnBins, reference: Counts, rows: int) -> Floats:
    """Draws of the statistic of chunks of `rows` rows that come from where the reference comes from."""
    if isinstance(bins, NumberBins) and not bins.few:
        numbers = reference[: bins.numbers]
        shares = numbers[numbers > 0] / max(int(numbers.sum()), 1)
        even = len(shares) > 1 and bool(np.abs(shares * len(shares) - 1.0).max() < _EVEN)
        draws = _even_draws(len(shares)) if even else _ordered_draws(shares)
        presence = _presence(bins, reference)
        if np.count_nonzero(presence) == 1:
            return draws
        return draws + _HALF * np.resize(_psi_draws(presence, rows), len(draws))
    return _psi_draws(reference, rows)


def far_quantile(draws: Floats, tail: float) -> float:
    """What a draw exceeds with probability `tail`; beyond the draws the tail goes on as an exponential one."""
    ordered = np.sort(draws)
    beyond = ordered[-_TAIL:] - ordered[-_TAIL - 1]
    share = _TAIL / len(ordered)
    if tail >= share:
        return float(np.quantile(ordered, 1.0 - tail))
    return float(ordered[-_TAIL - 1] + beyond.mean() * np.log(share / tail))


def readable_cells(bins: ColumnBins, reference: RowCounts, chunk: RowCounts) -> tuple[float, float | None]:
    """Psi (numbers by their deciles) and, of numbers, the Kolmogorov-Smirnov distance on the fine bins."""
    if not isinstance(bins, NumberBins):
        return float(psi(reference, chunk)), None
    before, now = (each / max(float(each.sum()), 1.0) for each in (reference[: bins.numbers], chunk[: bins.numbers]))
    distance = float(np.abs(np.cumsum(before) - np.cumsum(now)).max())
    if bins.few:
        return float(psi(reference, chunk)), distance
    ends = np.arange(0, bins.numbers, _DECILE)
    coarse = [
        np.concatenate([np.add.reduceat(counts[: bins.numbers], ends), counts[bins.numbers :]])
        for counts in (reference, chunk)
    ]
    return float(psi(*coarse)), distance


def _is_ordered(bins: ColumnBins) -> bool:
    return isinstance(bins, NumberBins) and not bins.few


def _presence(bins: NumberBins, counts: RowCounts) -> RowCounts:
    """Rows that are a number, text, missing: shape (…, 3)."""
    numbers = counts[..., : bins.numbers].sum(axis=-1, keepdims=True)
    return np.concatenate([numbers, counts[..., bins.numbers :]], axis=-1)


def _scaled_psi(reference: RowCounts, chunks: RowCounts) -> Floats:
    rows = chunks.sum(axis=-1)
    total = float(reference.sum())
    scaled: Floats = psi(reference, chunks) * (total * rows / np.maximum(total + rows, 1))
    return scaled


def _anderson_darling(reference: RowCounts, chunks: RowCounts) -> Floats:
    """Squared gaps between the cumulative distributions, each over its variance, averaged over the pooled rows."""
    total, rows = float(reference.sum()), chunks.sum(axis=-1)
    pooled = (reference + chunks) / np.maximum(total + rows, 1)[:, None]
    below = np.cumsum(pooled, axis=-1)[:, :-1]
    gaps = (
        np.cumsum(reference)[:-1] / max(total, 1) - np.cumsum(chunks, axis=-1)[:, :-1] / np.maximum(rows, 1)[:, None]
    )
    weights = _HALF * (pooled[:, :-1] + pooled[:, 1:])
    spread = below * (1.0 - below)
    parts = np.where(spread > np.finfo(np.float64).eps, weights * gaps**2 / np.maximum(spread, 1e-300), 0.0)
    found: Floats = parts.sum(axis=-1) * total * rows / np.maximum(total + rows, 1)
    return np.where((rows >= _FEWEST) & (total >= _FEWEST), found, 0.0)


@lru_cache(maxsize=4)
def _even_draws(bins: int) -> Floats:
    return _ordered_draws(np.full(bins, 1.0 / bins))


def _ordered_draws(shares: Floats) -> Floats:
    """Draws of the Anderson-Darling statistic of bins with these shares: chi-squares weighted by eigenvalues."""
    if len(shares) < 2:  # noqa: PLR2004 - one bin has no edge
        return np.zeros(_DRAWS)
    below = np.cumsum(shares)[:-1]
    root = np.sqrt(_HALF * (shares[:-1] + shares[1:]) / (below * (1.0 - below)))
    smaller, larger = np.minimum.outer(below, below), np.maximum.outer(below, below)
    weights = np.linalg.eigvalsh(np.outer(root, root) * smaller * (1.0 - larger))[::-1]
    leading = np.maximum(weights[:_EIGENVALUES], 0.0)
    drawn: Floats = _chi_squares()[:, : len(leading)] @ leading
    # The many small ones hardly vary: their mean stands for them.
    return drawn + float(weights[_EIGENVALUES:].sum())


@lru_cache(maxsize=1)
def _chi_squares() -> Floats:
    # A table of chance, the same for every report, so that a report can be repeated.
    return np.random.default_rng(0).chisquare(1.0, size=(_DRAWS, _EIGENVALUES))


def _psi_draws(reference: RowCounts, rows: int) -> Floats:
    """Draws of the scaled psi of chunks of `rows` rows against references of this size and these shares."""
    total = int(reference.sum())
    # Sorted, so that what is drawn does not depend on the order of the bins.
    filled = np.sort(reference[reference > 0])
    rng = np.random.default_rng(0)
    if len(filled) < 2:  # noqa: PLR2004 - one bin cannot move; still it takes more than one new row to be drift
        return rng.chisquare(1.0, size=_DRAWS)
    if min(filled.min(), filled.min() * rows / total) >= _MANY_ROWS:
        return rng.chisquare(len(filled) - 1.0, size=_DRAWS)
    shares = (filled / total).astype(np.float64)
    chunks, references = (rng.multinomial(count, shares, size=_SIMULATED) for count in (rows, total))
    return np.asarray(psi(references, chunks)) * scale(total, rows)
