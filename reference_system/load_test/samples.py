"""The files that the load generator writes and `workbook load` reads: a sample per request, and the run's progress.

In: one call per request. Out: `samples.npz`, columns of equal length; `progress.json`, replaced atomically.
Invariant: a request appears exactly once, with its due time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from reference_system.replaced_files import read_record, replace_file

if TYPE_CHECKING:
    from reference_system.arrays import Floats

PLAN_VARIABLE = "WORKBOOK_LOAD_PLAN"
PROGRESS_VARIABLE = "WORKBOOK_LOAD_PROGRESS"
SAMPLES_VARIABLE = "WORKBOOK_LOAD_SAMPLES"

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]
SampleFlags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class GeneratorProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run. Negative `elapsed`: not begun. Counts exclude the warm-up once it is over."""

    elapsed: float
    answered: int
    failed: int
    waiting: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Columns, in the order in which the requests ended; times in seconds.

    `due` counts from the start of the run; `lag` is how late the generator sent; `latency` counts from `due`;
    `outcome` is an index into `outcomes`, whose first entry is empty: success.
    """

    due: Floats
    lag: Floats
    latency: Floats
    endpoint: Indices
    outcome: Indices
    degraded: SampleFlags
    endpoints: tuple[str, ...]
    outcomes: tuple[str, ...]


@dataclass(slots=True)
class Recorder:
    """Collects samples at low cost during the run."""

    endpoints: tuple[str, ...]
    outcomes: list[str] = field(default_factory=lambda: [""])
    # due, lag, latency, endpoint, outcome and degraded of one request after another
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(  # noqa: PLR0913 - one argument per column
        self, *, due: float, lag: float, latency: float, endpoint: str, outcome: str, degraded: bool
    ) -> None:
        """Add a request that has ended."""
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)
        self.values.extend(
            (due, lag, latency, self.endpoints.index(endpoint), self.outcomes.index(outcome), float(degraded))
        )

    def samples(self) -> Samples:
        """All requests so far."""
        rows = np.array(self.values, dtype=np.float64).reshape(-1, 6)
        due, lag, latency, endpoint, outcome, degraded = rows.T.copy()
        return Samples(
            due=due,
            lag=lag,
            latency=latency,
            endpoint=endpoint.astype(np.int64),
            outcome=outcome.astype(np.int64),
            degraded=degraded.astype(np.bool_),
            endpoints=self.endpoints,
            outcomes=tuple(self.outcomes),
        )

    def save(self, path: Path) -> None:
        """Write the columns."""
        samples = self.samples()
        np.savez_compressed(
            path,
            due=samples.due,
            lag=samples.lag,
            latency=samples.latency,
            endpoint=samples.endpoint,
            outcome=samples.outcome,
            degraded=samples.degraded,
            endpoints=np.array(samples.endpoints),
            outcomes=np.array(samples.outcomes),
        )


def load_samples(path: Path) -> Samples:
    """The columns that a recorder saved."""
    with np.load(path, allow_pickle=False) as columns:
        return Samples(
            due=columns["due"],
            lag=columns["lag"],
            latency=columns["latency"],
            endpoint=columns["endpoint"],
            outcome=columns["outcome"],
            degraded=columns["degraded"],
            endpoints=tuple(columns["endpoints"].tolist()),
            outcomes=tuple(columns["outcomes"].tolist()),
        )


def write_progress(path: Path, progress: GeneratorProgress) -> None:
    """Replace the file atomically."""
    replace_file(path, msgspec.json.encode(progress))


def read_progress(path: Path) -> GeneratorProgress | None:
    """The last state, or `None` before the first."""
    return read_record(path, GeneratorProgress)
