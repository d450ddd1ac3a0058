"""Every path of the service, put together.

In: the parts. Out: the ASGI application.
"""

from __future__ import annotations

import uuid

from reference_system.serving.answering import Answering
from reference_system.serving.api import RequestRefused
from reference_system.serving.challengers.shadow import Shadow
from reference_system.serving.housekeeping import Housekeeping
from reference_system.serving.http.app import HttpAnswer, HttpApp, refusal
from reference_system.serving.http.landing_page import landing_page
from reference_system.serving.http.openapi import document
from reference_system.serving.prediction_log.kafka_log import PredictionLog
from reference_system.serving.prometheus_metrics import CONTENT_TYPE, ServingMetrics
from reference_system.serving.structured_log import log_place, write_event
from reference_system.settings import Settings


def new_app(
    settings: Settings,
    housekeeping: Housekeeping,
    predictions: PredictionLog,
    metrics: ServingMetrics,
    shadow: Shadow,
) -> HttpApp:
    """All routes."""
    answering = _answering(settings, housekeeping, predictions, metrics, shadow)
    here, mlflow, prefect = (settings.url(name) for name in ("serving", "mlflow", "prefect"))

    def page(_: bytes) -> HttpAnswer:
        body = landing_page(here=here, mlflow=mlflow, prefect=prefect, beside=housekeeping.beside)
        return HttpAnswer(body=body, content_type=b"text/html; charset=utf-8")

    def ready(_: bytes) -> HttpAnswer:
        missing = housekeeping.missing
        if app.draining or missing:
            reason = "the service is stopping" if app.draining else f"no verified model for {', '.join(missing)} yet"
            return refusal(RequestRefused(503, "not_ready", reason))
        return HttpAnswer(body=b'{"ready":true}')

    app = HttpApp(
        {
            **answering.routes(),
            "/": {"GET": page},
            "/livez": {"GET": lambda _: HttpAnswer(body=b'{"alive":true}')},
            "/readyz": {"GET": ready},
            "/metrics": {"GET": lambda _: HttpAnswer(body=metrics.text(), content_type=CONTENT_TYPE.encode())},
            "/openapi.json": {"GET": lambda _: HttpAnswer(body=document())},
        },
        metrics,
        lambda path, error: write_event("endpoint_failed", path=path, error=log_place(error)),
    )
    return app


def _answering(
    settings: Settings,
    housekeeping: Housekeeping,
    predictions: PredictionLog,
    metrics: ServingMetrics,
    shadow: Shadow,
) -> Answering:
    return Answering(
        fraud=lambda: housekeeping.fraud.current,
        catalogue=lambda: housekeeping.catalogue,
        read=housekeeping.reads,
        clock=housekeeping.clock,
        new_id=lambda: uuid.uuid4().hex,
        log=predictions.add,
        metrics=metrics,
        fraud_challenger=lambda: housekeeping.fraud_challengers.current,
        ranking_challenger=lambda: housekeeping.ranking_challenger,
        shadow=shadow,
        explored_places=settings.explored_places,
    )
