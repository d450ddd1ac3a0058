"""`workbook bench retrieval`: exact search for the nearest of 10,000 videos, as in serving.

In: nothing. Out: median and p99 of one retrieval, compared with sorting all products and with plain Python.
Invariant: all three find the same videos, which is checked first; they are measured in turn, lap after lap.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import mul
from time import perf_counter_ns, process_time_ns

import numpy as np

from reference_system.arrays import Floats32, Ints
from reference_system.errors import StateError
from reference_system.progress import Progress
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio
from reference_system.use_cases.recommendation.model import CANDIDATE_COUNT, FACTORS, nearest

VIDEO_COUNT = 10_000
RETRIEVAL_LAPS = 15
_ASKED = 400
_NAIVE_SHARE = 40  # plain Python takes so much longer that a fortieth of the queries is enough
_SEED = 5

Retrieve = Callable[[Floats32], list[int]]


def measure_retrieval(*, laps: int = RETRIEVAL_LAPS, asked: int = _ASKED, progress: Progress) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    rng = np.random.default_rng(_SEED)
    vectors = rng.normal(size=(VIDEO_COUNT, FACTORS)).astype(np.float32)
    wanted = rng.normal(size=(asked, FACTORS)).astype(np.float32)
    contenders: dict[str, Retrieve] = {
        "ours": lambda one: nearest(vectors, one, count=CANDIDATE_COUNT).tolist(),
        "sorted": lambda one: _sorted(vectors, one)[:CANDIDATE_COUNT].tolist(),
        "plain": _plain(vectors),
    }
    _compare(contenders, wanted[0])
    found: dict[str, list[list[float]]] = {name: [] for name in contenders}
    cpu: list[float] = []
    for lap in range(laps + 1):
        for name, retrieve in contenders.items():
            progress(lap / (laps + 1), f"lap {lap} of {laps}: {name}")
            few = wanted[: max(len(wanted) // _NAIVE_SHARE, 1)] if name == "plain" else wanted
            began = process_time_ns()
            found[name].append(_lap(retrieve, few))
            if name == "ours":
                cpu.append((process_time_ns() - began) / len(few) / 1e6)
    progress(1.0, "done")
    return _result({name: lapped[1:] for name, lapped in found.items()}, cpu[1:], asked)


def _sorted(vectors: Floats32, wanted: Floats32) -> Ints:
    order: Ints = np.argsort(-np.einsum("nd,d->n", vectors, wanted), kind="stable")
    return order


def _plain(vectors: Floats32) -> Retrieve:
    rows = vectors.tolist()

    def retrieve(wanted: Floats32) -> list[int]:
        one = wanted.tolist()
        products = [sum(map(mul, row, one)) for row in rows]
        return sorted(range(len(rows)), key=lambda item: -products[item])[:CANDIDATE_COUNT]

    return retrieve


def _compare(contenders: dict[str, Retrieve], wanted: Floats32) -> None:
    """Check that all find the same videos; another order of sums may only swap two neighbours at the edge."""
    found = [set(retrieve(wanted)) for retrieve in contenders.values()]
    if any(len(found[0] ^ other) > 2 for other in found[1:]):  # noqa: PLR2004 - one pair at the edge
        raise StateError("the retrieval methods find different videos: the comparison is not valid")


def _lap(retrieve: Retrieve, wanted: Floats32) -> list[float]:
    """Milliseconds of each retrieval."""
    taken = []
    for one in wanted:
        began = perf_counter_ns()
        retrieve(one)
        taken.append((perf_counter_ns() - began) / 1e6)
    return taken


def _result(found: dict[str, list[list[float]]], cpu: list[float], asked: int) -> BenchResult:
    shown = {"ours": "exact, best part sorted", "sorted": "everything sorted", "plain": "plain Python"}
    p50 = {name: [float(np.median(lap)) for lap in laps] for name, laps in found.items()}
    p99 = [float(np.quantile(lap, 0.99)) for lap in found["ours"]]
    return BenchResult(
        name="retrieval",
        conditions={
            "asked": f"{CANDIDATE_COUNT} of {VIDEO_COUNT:,} videos with {FACTORS} factors; {asked} retrievals a lap,"
            f" {max(asked // _NAIVE_SHARE, 1)} in plain Python",
        },
        figures=[
            *(BenchFigure(what=f"{shown[name]}, p50", unit="ms", laps=laps) for name, laps in p50.items()),
            BenchFigure(what=f"{shown['ours']}, p99", unit="ms", laps=p99),
            BenchFigure(what=f"{shown['ours']}, CPU", unit="ms", laps=cpu),
        ],
        goals=[
            BenchGoal(
                what="median of one retrieval, ms", found=float(np.median(p50["ours"])), bound=1.0, kind="at most"
            ),
            BenchGoal(
                what="plain Python against ours",
                found=figure_ratio(p50["plain"], p50["ours"]),
                bound=10.0,
                kind="at least",
            ),
        ],
    )
