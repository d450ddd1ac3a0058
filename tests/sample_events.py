"""Events for tests: one valid example of each topic, and hypothesis strategies for all of them.

In: a topic name and the fields that matter to the test. Out: records.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from reference_system.events import EARLIEST, Event, PredictionLogged, Topic
from reference_system.use_cases import TOPICS, topic_named
from reference_system.use_cases.fraud.events import ChargebackReported, ChargebackReversed, Transaction
from reference_system.use_cases.recommendation.events import (
    CATEGORIES,
    ExposureLogged,
    PageShown,
    VideoPublished,
    VideoRated,
    VideoWatched,
)

NOW = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)

_EXAMPLES: dict[str, dict[str, Any]] = {
    "transactions": {
        "transaction_id": "x1",
        "customer_id": "c000001",
        "terminal_id": "t000001",
        "amount": 12.5,
    },
    "chargebacks": {
        "event_timestamp": NOW - timedelta(days=3),
        "chargeback_id": "b1",
        "transaction_id": "x1",
        "customer_id": "c000001",
        "terminal_id": "t000001",
        "created_timestamp": NOW,
    },
    "chargeback-reversals": {
        "event_timestamp": NOW - timedelta(days=9),
        "chargeback_id": "b1",
        "transaction_id": "x1",
        "customer_id": "c000001",
        "terminal_id": "t000001",
        "created_timestamp": NOW,
    },
    "videos": {"video_id": "m000001", "category": "music", "duration_seconds": 240.0},
    "impressions": {
        "impression_id": "i1",
        "session_id": "s1",
        "viewer_id": "v000001",
        "video_ids": ["m000001", "m000002"],
        "propensities": [0.5, 0.25],
        "policy": "popularity",
    },
    "watches": {
        "watch_id": "w1",
        "impression_id": "i1",
        "viewer_id": "v000001",
        "video_id": "m000001",
        "category": "music",
        "position": 1,
        "watch_seconds": 120.0,
        "completion": 0.5,
    },
    "ratings": {"rating_id": "r1", "viewer_id": "v000001", "video_id": "m000001", "rating": 3.5},
    "predictions": {
        "created_timestamp": NOW,
        "prediction_id": "p1",
        "use_case": "fraud",
        "request_id": "x1",
        "entity_id": "c000001",
        "model_version": "1",
        "items": [],
        "scores": [0.25],
        "decision": "approve",
        "reasons": ["amount is large"],
        "features": [1.0, 2.0],
        "entity_keys": ["c000001", "t000001"],
        "state_micros": [1_740_000_000_000_000, None],
        "catalogue_timestamp": None,
        "feature_age_seconds": None,
        "degraded": False,
        "latency_ms": 1.5,
    },
    "exposures": {
        "exposure_id": "e1",
        "experiment": "ranker",
        "arm": "control",
        "viewer_id": "v000001",
        "prediction_id": "p1",
        "model_version": "1",
    },
}
_EXAMPLES["shadow-predictions"] = _EXAMPLES["predictions"]


def example(topic: str, **fields: Any) -> Event:
    """A valid event of the topic; `fields` replace the defaults."""
    record = topic_named(topic).record
    return record(**{"schema_version": 1, "event_timestamp": NOW, **_EXAMPLES[topic], **fields})


_moments = st.datetimes(
    min_value=EARLIEST.replace(tzinfo=None), max_value=NOW.replace(tzinfo=None), timezones=st.just(UTC)
)
_visible = st.characters(exclude_categories=["C", "Z"])
_ids = st.text(_visible | st.sampled_from(" \u3000"), min_size=1, max_size=64).map(str.strip).filter(bool)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=32)
_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=32)
_shares = st.floats(0.0, 1.0)
_seconds = st.floats(0.0, 86_400.0)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_of_every_event = {"schema_version": st.just(1), "event_timestamp": _moments}


def _about_a_payment(record: type[Event]) -> st.SearchStrategy[Event]:
    return st.tuples(_moments, _moments).flatmap(
        lambda moments: st.builds(
            record,
            schema_version=st.just(1),
            event_timestamp=st.just(min(moments)),
            chargeback_id=_ids,
            transaction_id=_ids,
            customer_id=_ids,
            terminal_id=_ids,
            created_timestamp=st.just(max(moments)),
        )
    )


EVENTS: dict[str, st.SearchStrategy[Event]] = {
    "transactions": st.builds(
        Transaction,
        **_of_every_event,
        transaction_id=_ids,
        customer_id=_ids,
        terminal_id=_ids,
        amount=st.floats(-1e12, 1e12),
    ),
    "chargebacks": _about_a_payment(ChargebackReported),
    "chargeback-reversals": _about_a_payment(ChargebackReversed),
    "videos": st.builds(
        VideoPublished,
        **_of_every_event,
        video_id=_ids,
        category=st.sampled_from(CATEGORIES),
        duration_seconds=st.floats(0.0, 86_400.0, exclude_min=True),
    ),
    "impressions": st.lists(st.tuples(_ids, _shares), min_size=1, max_size=50).flatmap(
        lambda shown: st.builds(
            PageShown,
            **_of_every_event,
            impression_id=_ids,
            session_id=_ids,
            viewer_id=_ids,
            video_ids=st.just([video for video, _ in shown]),
            propensities=st.just([share for _, share in shown]),
            policy=_names,
        )
    ),
    "watches": st.builds(
        VideoWatched,
        **_of_every_event,
        watch_id=_ids,
        impression_id=_ids,
        viewer_id=_ids,
        video_id=_ids,
        category=st.sampled_from(CATEGORIES),
        position=st.integers(1, 50),
        watch_seconds=_seconds,
        completion=_shares,
    ),
    "ratings": st.builds(
        VideoRated, **_of_every_event, rating_id=_ids, viewer_id=_ids, video_id=_ids, rating=st.floats(0.0, 5.0)
    ),
    "predictions": st.builds(
        PredictionLogged,
        **_of_every_event,
        created_timestamp=_moments,
        prediction_id=_ids,
        use_case=st.sampled_from(["fraud", "recommendation"]),
        request_id=_ids,
        entity_id=_ids,
        model_version=_names,
        items=st.lists(_ids, max_size=5),
        scores=st.lists(_finite, max_size=5),
        decision=_texts,
        reasons=st.lists(_texts, max_size=3),
        features=st.lists(_finite, max_size=20),
        entity_keys=st.lists(_ids, max_size=5),
        state_micros=st.lists(st.none() | st.integers(0, 253_402_300_799_999_999), max_size=5),
        catalogue_timestamp=st.none() | _moments,
        feature_age_seconds=st.none() | st.floats(0.0, 1e9),
        degraded=st.booleans(),
        latency_ms=st.floats(0.0, 1e6),
    ),
    "exposures": st.builds(
        ExposureLogged,
        **_of_every_event,
        exposure_id=_ids,
        experiment=_ids,
        arm=st.sampled_from(["control", "treatment"]),
        viewer_id=_ids,
        prediction_id=_ids,
        model_version=_names,
    ),
}
EVENTS["shadow-predictions"] = EVENTS["predictions"]
TOPIC_NAMES = [topic.name for topic in TOPICS]


def stream(seed: int, count: int, *, days: float = 10.0) -> list[tuple[Topic, Event]]:
    """A plausible mix of valid events of all topics up to `NOW`, in the order in which they became known."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["transactions", "impressions", "watches", "chargebacks", "predictions"], count)
    names[:20] = "videos"
    seconds = np.sort(rng.uniform(0, days * 86_400, count))
    events = [
        (topic_named(name), _streamed(name, f"{seed}-{number}", NOW - timedelta(days=days, seconds=-float(at)), rng))
        for number, (name, at) in enumerate(zip(names.tolist(), seconds, strict=True))
    ]
    return _disputed_again(events, np.random.default_rng([seed, 1]))


def _disputed_again(events: list[tuple[Topic, Event]], rng: np.random.Generator) -> list[tuple[Topic, Event]]:
    """Some chargebacks name the payment of an earlier one, and some predictions make way for a reversal."""
    reports: list[Any] = []  # chargebacks
    taken_back: set[str] = set()
    found = []
    event: Any
    for topic, event in events:
        before = reports[int(rng.integers(len(reports)))] if reports else None
        changed = topic, event
        if before is not None and topic.name == "chargebacks" and rng.random() < 0.2:
            if event.created_timestamp - before.event_timestamp < timedelta(days=7):
                fields = {"event_timestamp": before.event_timestamp, "terminal_id": before.terminal_id}
                again = msgspec.structs.replace(event, **fields, transaction_id=before.transaction_id)
                changed = topic, again
        elif before is not None and topic.name == "predictions" and rng.random() < 0.2:
            fields = {**msgspec.structs.asdict(before), "created_timestamp": event.created_timestamp}
            if before.chargeback_id not in taken_back:
                changed = topic_named("chargeback-reversals"), ChargebackReversed(**fields)
            taken_back.add(before.chargeback_id)
        if topic.name == "chargebacks":
            reports.append(changed[1])
        found.append(changed)
    return found


def _name(kind: str, number: int) -> str:
    """An id: of ten one is of the kind that people have in their own data."""
    return f"{kind}{number:06d}" if number % 10 else f'{{{kind}{number}}} O\'Elm, "Ж" \\ / 店'


def _streamed(name: str, number: str, moment: datetime, rng: np.random.Generator) -> Event:
    customer, terminal, viewer = (_name(kind, int(rng.integers(50))) for kind in "ctv")
    video = f"m{rng.integers(20):06d}"
    known: dict[str, dict[str, Any]] = {
        "transactions": {
            "transaction_id": f"x{number}",
            "customer_id": customer,
            "terminal_id": terminal,
            "amount": round(float(rng.lognormal(3.0, 1.0)), 2),
        },
        "chargebacks": {
            "event_timestamp": moment - timedelta(days=float(rng.uniform(1, 6.9))),
            "chargeback_id": f"b{number}",
            "transaction_id": f"y{number}",
            "terminal_id": terminal,
            "created_timestamp": moment,
        },
        "videos": {"video_id": f"m{number}", "category": CATEGORIES[int(rng.integers(8))]},
        "impressions": {
            "impression_id": f"i{number}",
            "viewer_id": viewer,
            "video_ids": [f"m{n:06d}" for n in rng.choice(20, 10, replace=False)],
            "propensities": [0.5] * 10,
        },
        "watches": {
            "watch_id": f"w{number}",
            "viewer_id": viewer,
            "video_id": video,
            "category": CATEGORIES[int(rng.integers(8))],
            "completion": float(rng.uniform()),
        },
        "predictions": {"prediction_id": f"p{number}", "created_timestamp": moment, "entity_id": customer},
    }
    return example(name, **{"event_timestamp": moment, **known[name]})
