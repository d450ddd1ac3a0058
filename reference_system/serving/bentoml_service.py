"""The real-time service as BentoML runs it: `bentoml serve reference_system.serving.bentoml_service:RealTime`.

In: settings from the environment. Out: the HTTP API, metrics, prediction log.
Invariant: importing this module opens nothing; everything is built when BentoML starts its one worker.

This is the one file of serving that knows features and registry: here their objects become what serving declares.
Every path is ours: the application stands before BentoML's own routes (one of which loads a script from another
host), and BentoML's tracing, access log and metrics are off, because they cost more than an answer.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import bentoml
import numpy as np

from reference_system.errors import BundleRefused, StateError
from reference_system.paths import StatePaths
from reference_system.serving.fetched_bundles import fetch
from reference_system.serving.http.asgi_front import Front
from reference_system.serving.structured_log import write_event
from reference_system.settings import LOOPBACK, Settings, load_settings
from reference_system.use_case import UseCase

if TYPE_CHECKING:
    from reference_system.registry.bundles.bundle import Bundle
    from reference_system.serving.challengers.traffic import ChallengerPlan, Challengers
    from reference_system.serving.champions import Champion
    from reference_system.serving.feature_reads import ReadStates
    from reference_system.serving.fraud.scoring import FraudModel
    from reference_system.serving.housekeeping import Housekeeping
    from reference_system.serving.prediction_log.kafka_log import PredictionLog
    from reference_system.serving.prometheus_metrics import ServingMetrics
    from reference_system.serving.recommendation.catalogue import RankerModel

_Model = TypeVar("_Model")
# While it drains, the service says "not ready" and still answers: time for clients to go elsewhere.
DRAIN_SECONDS = 0.5
_SWITCH_SECONDS = 0.001
_AFTER_THE_FREEZE = (50_000, 50, 100)


@bentoml.service(
    name="serving",
    workers=1,
    http={"host": LOOPBACK},
    metrics={"enabled": False},
    monitoring={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class RealTime:
    """The service."""

    def __init__(self) -> None:
        """Read the settings; `start` does the rest."""
        self.settings = load_settings()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load the models, open the stores, begin to answer."""
        from reference_system.serving.challengers.shadow import Shadow
        from reference_system.serving.http.routes import new_app

        metrics = new_metrics()
        self.housekeeping = new_housekeeping(self.settings, metrics)
        self.housekeeping.prepare()
        self.predictions = new_prediction_log(self.settings, metrics)
        self.predictions.start()
        self.shadow = Shadow()
        self.shadow.start()
        Front.app = self.app = new_app(self.settings, self.housekeeping, self.predictions, metrics, self.shadow)
        self.housekeeping.start()
        self._drain_on_sigterm()
        # What was imported and built stays. Looking at all of it again and again is what makes the slowest answers.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_AFTER_THE_FREEZE)
        # While a background thread works, the event loop gets the interpreter back after this long.
        sys.setswitchinterval(_SWITCH_SECONDS)
        write_event("started", missing=", ".join(self.housekeeping.missing) or None)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Send what the prediction log still holds."""
        self.housekeeping.stop()
        await asyncio.to_thread(self.shadow.stop)
        await asyncio.to_thread(self.predictions.stop)
        write_event("stopped")

    def _drain_on_sigterm(self) -> None:
        """Let the server's own handler run a little later, after the service has said that it is not ready."""
        loop = asyncio.get_running_loop()
        stop_server = signal.getsignal(signal.SIGTERM)

        def drain(number: int, frame: FrameType | None) -> None:
            self.app.draining = True
            if callable(stop_server):
                loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, stop_server, number, frame)

        signal.signal(signal.SIGTERM, drain)


# The decorator made it a BentoML service.
RealTime.add_asgi_middleware(Front)  # type: ignore[attr-defined]


def new_metrics() -> ServingMetrics:
    """The metrics with their labels."""
    from reference_system.serving.answering import FRAUD_PATH, RECOMMENDATIONS_PATH
    from reference_system.serving.prediction_log.kafka_log import OUTCOMES
    from reference_system.serving.prometheus_metrics import ServingMetrics
    from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY
    from reference_system.use_cases.recommendation.features import VIEWER_ACTIVITY

    return ServingMetrics(
        endpoints=(FRAUD_PATH, RECOMMENDATIONS_PATH),
        views=(CUSTOMER_ACTIVITY.name, VIEWER_ACTIVITY.name),
        log_outcomes=OUTCOMES,
    )


def new_prediction_log(settings: Settings, metrics: ServingMetrics) -> PredictionLog:
    """The prediction log, which connects by itself."""
    from reference_system.serving.prediction_log.kafka_log import PredictionLog
    from reference_system.serving.prediction_log.spool import Spool

    spool = Spool(StatePaths(settings.state_dir).spool / "predictions.tsv")
    return PredictionLog(
        settings.kafka_bootstrap,
        spool,
        count=metrics.logged,
        report=lambda event, reason: write_event(event, reason=reason),
    )


def new_housekeeping(settings: Settings, metrics: ServingMetrics) -> Housekeeping:
    """Champions, features and clock of one state directory."""
    from reference_system.serving.event_clock import ServingClock
    from reference_system.serving.feature_reads import BULK_DEADLINE_SECONDS, GuardedReads
    from reference_system.serving.housekeeping import Housekeeping
    from reference_system.use_cases.fraud.features import INPUTS as FRAUD_INPUTS
    from reference_system.use_cases.recommendation.features import INPUTS as RANKER_INPUTS

    paths = StatePaths(settings.state_dir)
    fraud = new_champion(settings, "fraud", FRAUD_INPUTS, fraud_model, metrics)
    ranker = new_champion(settings, "recommendation", RANKER_INPUTS, ranker_model, metrics)

    def end_of_data() -> datetime:
        loaded = [each.model.known_until for each in (fraud.current, ranker.current) if each is not None]
        return max(loaded, default=settings.history_start)

    return Housekeeping(
        fraud=fraud,
        recommendation=ranker,
        fraud_challengers=new_challengers(settings, "fraud", FRAUD_INPUTS, fraud_model, metrics),
        ranking_challengers=new_challengers(settings, "recommendation", RANKER_INPUTS, ranker_model, metrics),
        reads=GuardedReads(lambda: open_reads(paths), monotonic=monotonic),
        bulk_reads=GuardedReads(
            lambda: open_reads(paths), monotonic=monotonic, deadline_seconds=BULK_DEADLINE_SECONDS
        ),
        clock=ServingClock(paths.clock, before_the_world=end_of_data),
        report=write_event,
    )


def new_champion(
    settings: Settings,
    use_case: UseCase,
    inputs: tuple[str, ...],
    convert: Callable[[Bundle], _Model],
    metrics: ServingMetrics,
) -> Champion[_Model]:
    """The champion of one use case: found by pointer and alias, fetched by MLflow, verified by the registry."""
    from reference_system.registry.bundles.bundle import (
        current_version,
        load_bundle,
        set_current,
        version_folder,
    )
    from reference_system.registry.promotion import alias_is_owed
    from reference_system.serving.champions import Champion, ChampionListener, ChampionSource
    from reference_system.serving.mlflow_alias import champion_alias

    root = StatePaths(settings.state_dir).bundles

    def load(version: str) -> _Model:
        folder = version_folder(root, use_case, version)
        if not folder.is_dir():
            fetch(use_case, version)
        return convert(load_bundle(folder, use_case=use_case, inputs=inputs))

    def loaded(version: str) -> None:
        metrics.serves(use_case, version)
        write_event("model_loaded", use_case=use_case, version=version)

    def refused(version: str, reason: str) -> None:
        metrics.refused(use_case)
        write_event("model_refused", use_case=use_case, version=version, reason=reason)

    def alias() -> str | None:
        # While it is owed, the alias names the champion of before (see `registry/promotion.py`).
        return None if alias_is_owed(root, use_case) else champion_alias(settings.port("mlflow"), use_case)

    source = ChampionSource(
        pointer=lambda: current_version(root, use_case),
        alias=alias,
        load=load,
        confirm=lambda version: set_current(root, use_case, version),
    )
    return Champion(source, ChampionListener(loaded=loaded, refused=refused), monotonic=monotonic)


def new_challengers(
    settings: Settings,
    use_case: UseCase,
    inputs: tuple[str, ...],
    convert: Callable[[Bundle], _Model],
    metrics: ServingMetrics,
) -> Challengers[_Model]:
    """Who stands beside the champion of one use case: by the traffic plan, from a bundle that is here, verified."""
    from reference_system.registry.bundles.bundle import load_bundle, version_folder
    from reference_system.registry.traffic import read_plan
    from reference_system.serving.challengers.events import News
    from reference_system.serving.challengers.traffic import ChallengerPlan, Challengers, PlanSource
    from reference_system.use_cases import DECLARATIONS

    root = StatePaths(settings.state_dir).bundles

    def plan() -> ChallengerPlan | None:
        found = read_plan(root, use_case)
        if found is None:
            return None
        return ChallengerPlan(
            mode=found.mode, version=found.version, name=found.name, share=found.share, salt=found.salt
        )

    # Nothing is fetched: whoever planned it verified it here, and the champions' pointers are looked at meanwhile.
    source = PlanSource(
        plan=plan,
        load=lambda version: convert(
            load_bundle(version_folder(root, use_case, version), use_case=use_case, inputs=inputs)
        ),
    )
    news = News(use_case=use_case, metrics=metrics.challengers)
    return Challengers(source, news, budget_seconds=DECLARATIONS[use_case].breaker_seconds, monotonic=monotonic)


def fraud_model(bundle: Bundle) -> FraudModel:
    """What scoring needs of a verified bundle."""
    from reference_system.serving.fraud.scoring import FraudModel
    from reference_system.use_cases.fraud.policy import Thresholds

    manifest = bundle.manifest
    if manifest.thresholds is None or manifest.usual is None:
        raise BundleRefused(f"fraud {manifest.model_version} has no thresholds")
    return FraudModel(
        version=manifest.model_version,
        known_until=manifest.data_window.end,
        scorer=bundle.scorer.score,
        thresholds=Thresholds(review=manifest.thresholds.review, block=manifest.thresholds.block),
        usual=np.asarray(manifest.usual),
    )


def ranker_model(bundle: Bundle) -> RankerModel:
    """What recommending needs of a verified bundle."""
    from reference_system.serving.recommendation.catalogue import RankerModel
    from reference_system.use_cases.recommendation.model import Neighbours

    manifest, found = bundle.manifest, bundle.catalogue
    if found is None:
        raise BundleRefused(f"recommendation {manifest.model_version} has no catalogue")
    return RankerModel(
        version=manifest.model_version,
        known_until=manifest.data_window.end,
        scorer=bundle.scorer.score,
        video_ids=tuple(found.video_ids.tolist()),
        categories=found.categories,
        durations=found.durations,
        published=found.published,
        neighbours=Neighbours(items=found.neighbour_items, similarities=found.neighbour_similarities),
        vectors=found.factors,
        popular=tuple(item for item in found.popular.tolist() if item >= 0),
    )


def open_reads(paths: StatePaths) -> ReadStates:
    """Feast's online store: reads never wait for its writer.

    Raises:
        StateError: if nothing was applied yet. Feast would leave an empty registry, and others take it for a real one.
    """
    from reference_system.features.feast.store import open_store, read_states

    if not (paths.feast_registry.exists() and paths.online_store.exists()):
        raise StateError("there is no feature store yet", next_command="workbook etl")
    return partial(read_states, open_store(paths))
