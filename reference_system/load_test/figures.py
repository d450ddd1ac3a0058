"""The figures of a load test, per second and for the whole run, and reasons to doubt them.

In: samples and the plan. Out: records for the run file.
Invariant: a failed request counts as slower than every answer, so failing fast improves no percentile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from reference_system.load_test.plan import LoadPlan
from reference_system.load_test.samples import SampleFlags, Samples

if TYPE_CHECKING:
    from reference_system.arrays import Floats

EVERYTHING = "all"
# The generator is a bottleneck if its own p99 of lag exceeds both this bound and this share of the p99 of latency.
LAG_BOUND_MS = 5.0
LAG_SHARE_OF_P99 = 0.1
# If a smaller share of the arrivals was answered, the service did not keep up.
KEPT_UP = 0.95
# A p99 with fewer requests than this above it is not reliable.
REQUESTS_ABOVE_P99 = 10
_MS = 1_000.0


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. A percentile that falls among the failed requests is absent."""

    requests: int
    errors: dict[str, int]
    degraded: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class ServiceCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of the service's processes during the measurement, including requests of the simulated world."""

    cpu_share: float  # CPU-seconds per second, so 1 is one core
    requests_per_second: float
    cpu_ms_per_request: float


class RequestRates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests per second: requested, drawn by the Poisson process, answered successfully."""

    requested: float
    arrived: float
    achieved: float


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How late the generator sent requests after their due times; it is part of every latency."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run, without the warm-up."""

    endpoints: dict[str, Latencies]
    rates: RequestRates
    lag: Lag
    service: ServiceCost | None
    generator_cpu_share: float | None
    doubts: tuple[str, ...]


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the run, including the warm-up, by due time."""

    second: int
    arrived: int
    answered: int  # successfully in this second, regardless of due time
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def figures_of(
    samples: Samples, plan: LoadPlan, *, service: ServiceCost | None = None, generator_cpu_share: float | None = None
) -> Figures:
    """The figures of the measured part of the run."""
    measured = samples.due >= plan.warm_up_seconds
    endpoints = {
        name: latencies(samples, measured & (samples.endpoint == index))
        for index, name in enumerate(samples.endpoints)
        if name in plan.shares
    }
    endpoints[EVERYTHING] = latencies(samples, measured)
    rates = RequestRates(
        requested=plan.rate,
        arrived=float(measured.sum()) / plan.seconds,
        achieved=float(_answered_between(samples, plan.warm_up_seconds, plan.whole_seconds).sum()) / plan.seconds,
    )
    lags = _MS * samples.lag[measured]
    lag = Lag(p50_ms=percentile(lags, 50), p99_ms=percentile(lags, 99), max_ms=percentile(lags, 100))
    return Figures(
        endpoints=endpoints,
        rates=rates,
        lag=lag,
        service=service,
        generator_cpu_share=generator_cpu_share,
        doubts=tuple(_doubts(endpoints[EVERYTHING], rates, lag)),
    )


def latencies(samples: Samples, chosen: SampleFlags) -> Latencies:
    """One row, for the chosen requests."""
    outcome = samples.outcome[chosen]
    good = outcome == 0
    times = _MS * samples.latency[chosen]
    ranked = np.where(good, times, np.inf)
    errors = {
        kind: int(count)
        for index, kind in enumerate(samples.outcomes)
        if index > 0 and (count := (outcome == index).sum()) > 0
    }
    return Latencies(
        requests=len(times),
        errors=errors,
        degraded=int(samples.degraded[chosen].sum()),
        p50_ms=percentile(ranked, 50),
        p95_ms=percentile(ranked, 95),
        p99_ms=percentile(ranked, 99),
        max_ms=percentile(times[good], 100),
    )


def seconds_of(samples: Samples, plan: LoadPlan) -> list[Second]:
    """The figures of each second of the run."""
    due_second = samples.due.astype(np.int64)
    found = []
    for second in range(int(np.ceil(plan.whole_seconds))):
        row = latencies(samples, due_second == second)
        found.append(
            Second(
                second=second,
                arrived=row.requests,
                answered=int(_answered_between(samples, second, second + 1).sum()),
                failed=sum(row.errors.values()),
                p50_ms=row.p50_ms,
                p95_ms=row.p95_ms,
                p99_ms=row.p99_ms,
            )
        )
    return found


def percentile(values: Floats, percent: float) -> float | None:
    """The smallest value that `percent` of the values do not exceed; `None` if there is none, or it is infinite."""
    if len(values) == 0:
        return None
    found = float(np.percentile(values, percent, method="inverted_cdf"))
    return found if np.isfinite(found) else None


def _answered_between(samples: Samples, start: float, end: float) -> SampleFlags:
    ended = samples.due + samples.latency
    flags: SampleFlags = (samples.outcome == 0) & (ended >= start) & (ended < end)
    return flags


def _doubts(row: Latencies, rates: RequestRates, lag: Lag) -> list[str]:
    """Reasons to doubt the figures."""
    doubts = []
    slowest = max(LAG_BOUND_MS, LAG_SHARE_OF_P99 * (row.p99_ms or 0.0))
    late = lag.p99_ms is not None and lag.p99_ms > slowest
    if late:
        doubts.append(
            f"the generator was a bottleneck: it sent 1 % of the requests more than {lag.p99_ms:.1f} ms late, "
            "and that is part of the latencies"
        )
    if rates.achieved < KEPT_UP * rates.arrived:
        who = "service and generator" if late else "the service"
        doubts.append(f"{who} did not keep up: {rates.achieved:.0f} of {rates.arrived:.0f} requests/s answered")
    if row.requests < 100 * REQUESTS_ABOVE_P99:
        doubts.append(f"p99 rests on the slowest {row.requests // 100} of {row.requests} requests: run for longer")
    if row.degraded:
        doubts.append(f"{row.degraded} of {row.requests} answers were degraded: cheaper than complete ones")
    return doubts
