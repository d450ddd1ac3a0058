"""`workbook bench shadow`: the cost of a shadow challenger for the answers, compared with no challenger.

In: the champion bundles and the feature store of the state directory. Out: latency of the answers and CPU of the
process, with and without a shadow, in turn.
Invariant: requests are sent at intended times, independent of the answers (an open loop), and latency counts from
those times; the shadow is the champion's model, so both do the same work.

The cost of Kafka is not included: records are encoded and discarded.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import msgspec
import numpy as np

from reference_system.clock import FixedClock
from reference_system.errors import StateError
from reference_system.events import encode
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio
from reference_system.registry.bundles.bundle import current_version, load_bundle, version_folder
from reference_system.serving.answering import FRAUD_PATH, RECOMMENDATIONS_PATH, Answering
from reference_system.serving.bentoml_service import fraud_model, new_metrics, open_reads, ranker_model
from reference_system.serving.catalogue import RankerModel, ServedCatalogue, refresh_catalogue
from reference_system.serving.challengers.breaker import Breaker
from reference_system.serving.challengers.shadow import Shadow
from reference_system.serving.challengers.traffic import Challenger, ChallengerPlan
from reference_system.serving.champions import Loaded
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud_scoring import FraudModel
from reference_system.serving.http.app import HttpApp, Scope
from reference_system.settings import Settings
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.recommendation import model as recommendation

LAPS, SECONDS = 5, 4.0
# About the rates of the simulated world at its default speed: payments and pages per second.
RATES = {FRAUD_PATH: 160.0, RECOMMENDATIONS_PATH: 60.0}
_KINDS = ("without", "with a shadow")
_SLOWER, _SLOWER_P99 = 1.1, 1.5
_PLAN = ChallengerPlan(mode="shadow", version="0", name="bench", share=0.0, salt="bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    fraud: FraudModel
    catalogue: ServedCatalogue
    read: ReadStates


class _Lap(msgspec.Struct, frozen=True, kw_only=True):
    """One lap: milliseconds from intended time to answer, CPU milliseconds per request, share of shadowed requests."""

    p50: float
    p99: float
    cpu: float
    shadowed: float


def measure_shadow(
    settings: Settings, *, laps: int = LAPS, seconds: float = SECONDS, progress: Progress
) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    models = _load(StatePaths(settings.state_dir))
    found: dict[tuple[str, str], list[_Lap]] = {(path, kind): [] for path in RATES for kind in _KINDS}
    gc.collect()
    gc.freeze()
    # The first lap warms up and is not counted.
    for lap in range(laps + 1):
        progress(lap / (laps + 1), f"lap {lap} of {laps}")
        for (path, kind), measured in found.items():
            measured.append(_measure(models, path, seconds, shadowed=kind != _KINDS[0]))
    gc.unfreeze()
    counted = {key: measured[1:] for key, measured in found.items()}
    return BenchResult(
        name="shadow",
        conditions={
            "requests": f"open loop in this process, {_words(RATES)} for {seconds:g} s a lap",
            "models": f"fraud version {models.fraud.version}, recommendation version {models.catalogue.model.version}",
        },
        figures=list(_figures(counted)),
        goals=list(_goals(counted)),
    )


def _load(paths: StatePaths) -> _Models:
    versions = {case: current_version(paths.bundles, case) for case in (fraud.NAME, recommendation.NAME)}
    score, rank = versions[fraud.NAME], versions[recommendation.NAME]
    if score is None or rank is None:
        raise StateError("there are no champions to measure yet", next_command="make up")
    folder = version_folder(paths.bundles, fraud.NAME, score)
    scoring = fraud_model(load_bundle(folder, use_case=fraud.NAME, inputs=fraud.SIGNATURE))
    folder = version_folder(paths.bundles, recommendation.NAME, rank)
    ranker: RankerModel = ranker_model(
        load_bundle(folder, use_case=recommendation.NAME, inputs=recommendation.SIGNATURE)
    )
    read = open_reads(paths)
    return _Models(fraud=scoring, catalogue=refresh_catalogue(ranker, read, ranker.known_until), read=read)


def _measure(models: _Models, path: str, seconds: float, *, shadowed: bool) -> _Lap:
    with _app(models, shadowed=shadowed) as (app, cast):
        began = time.process_time()
        taken = asyncio.run(_open_loop(app, path, seconds))
        cpu = time.process_time() - began
        return _Lap(
            p50=float(np.quantile(taken, 0.5)) * 1000.0,
            p99=float(np.quantile(taken, 0.99)) * 1000.0,
            cpu=cpu / len(taken) * 1000.0,
            shadowed=cast["shadowed"] / len(taken),
        )


@contextmanager
def _app(models: _Models, *, shadowed: bool) -> Iterator[tuple[HttpApp, Mapping[str, int]]]:
    metrics, shadow, numbers = new_metrics(), Shadow(), count(1)
    # One hour is longer than any lap, so the breaker stops nothing.
    breaker = Breaker(3600.0, lambda _: None)
    cast = {"answered": 0, "shadowed": 0}

    def log(topic: object, record: object) -> None:
        encode(record)  # type: ignore[arg-type]  # serving logs only events
        cast["shadowed" if getattr(topic, "name", "") == "shadow-predictions" else "answered"] += 1

    answering = Answering(
        fraud=lambda: Loaded(version=models.fraud.version, model=models.fraud),
        catalogue=lambda: models.catalogue,
        read=models.read,
        clock=FixedClock(models.catalogue.model.known_until),
        new_id=lambda: f"bench-{next(numbers)}",
        log=log,
        metrics=metrics,
        fraud_challenger=lambda: Challenger(plan=_PLAN, model=models.fraud, breaker=breaker) if shadowed else None,
        ranking_challenger=lambda: (
            Challenger(plan=_PLAN, model=models.catalogue, breaker=breaker) if shadowed else None
        ),
        shadow=shadow,
    )
    shadow.start()
    try:
        yield HttpApp(answering.routes(), metrics, _raise), cast
    finally:
        shadow.stop()


async def _open_loop(app: HttpApp, path: str, seconds: float) -> list[float]:
    """Send requests at their intended times; returns the seconds from those times to the answers."""
    rate = RATES[path]
    first = time.perf_counter() + 0.05
    taken: list[float] = []

    async def ask(number: int) -> None:
        intended = first + number / rate
        await asyncio.sleep(max(intended - time.perf_counter(), 0.0))
        await _one(app, path, _body(path, number))
        taken.append(time.perf_counter() - intended)

    await asyncio.gather(*(ask(number) for number in range(int(rate * seconds))))
    return taken


async def _one(app: HttpApp, path: str, body: bytes) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_message: object) -> None:
        return

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await app(scope, receive, send)


def _body(path: str, number: int) -> bytes:
    # A prime step reaches all customers, terminals and viewers of a world of any size.
    asked: dict[str, object] = {"viewer_id": f"v{number * 37 % 5_000:06d}"}
    if path == FRAUD_PATH:
        customer, terminal = f"c{number * 37 % 5_000:06d}", f"t{number * 53 % 10_000:06d}"
        asked = {"transaction_id": f"b{number}", "customer_id": customer, "terminal_id": terminal, "amount": 42.5}
    return msgspec.json.encode(asked)


def _figures(found: Mapping[tuple[str, str], list[_Lap]]) -> Iterator[BenchFigure]:
    for (path, kind), laps in found.items():
        note = "" if kind == _KINDS[0] else f"{np.mean([lap.shadowed for lap in laps]):.0%} of requests shadowed"
        for what in ("p50", "p99", "cpu"):
            unit = "CPU-ms" if what == "cpu" else "ms"
            name = "CPU of a request" if what == "cpu" else what
            yield BenchFigure(
                what=f"{path}, {name}, {kind}", unit=unit, laps=[getattr(lap, what) for lap in laps], note=note
            )


def _goals(found: Mapping[tuple[str, str], list[_Lap]]) -> Iterator[BenchGoal]:
    for path in RATES:
        for what, bound in (("p50", _SLOWER), ("p99", _SLOWER_P99)):
            without, beside = ([getattr(lap, what) for lap in found[path, kind]] for kind in _KINDS)
            yield BenchGoal(
                what=f"{path}: {what} with a shadow ÷ without",
                found=figure_ratio(beside, without),
                bound=bound,
                kind="at most",
            )


def _words(rates: Mapping[str, float]) -> str:
    return ", ".join(f"{rate:g}/s to {path}" for path, rate in rates.items())


def _raise(_path: str, error: Exception) -> None:
    raise error
