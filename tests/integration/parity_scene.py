"""A lake with payments and pages, answers of the service's own functions, and their log in the same lake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from served_models import States, fraud_model_for_tests, ranker_model_for_tests
from small_lake import Row, at, chargeback, page, payment, put, reversal, video, watch

from reference_system.event_time import moment_of
from reference_system.events import PREDICTIONS, PredictionLogged
from reference_system.features.history.states import states
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.serving.api import AnswerIdentity, FraudScoreRequest, RecommendationRequest
from reference_system.serving.feature_reads import FeaturesUnavailable, ReadStates
from reference_system.serving.fraud import scoring as fraud_scoring
from reference_system.serving.recommendation import pages as recommending
from reference_system.serving.recommendation.catalogue import refresh_catalogue
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.use_cases.recommendation.features import VIEWS
from reference_system.windows import View

HOURS = 44 * 24
MICRO = timedelta(microseconds=1)
FRAUD, RANKER = fraud_model_for_tests(), ranker_model_for_tests()


def happened(seed: int = 5, count: int = 400) -> dict[str, list[Row]]:
    """Rows by topic: five customers at four terminals, four viewers, the catalogue of the ranker.

    Of the frauds some have two chargebacks, and some of either kind have one of them taken back.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Row]] = defaultdict(list)
    for n, hours in enumerate(sorted(rng.uniform(0, HOURS, count).tolist())):
        who, where = f"c{rng.integers(5)}", f"t{rng.integers(4)}"
        rows["transactions"].append(payment(n, hours, customer=who, terminal=where, amount=float(rng.uniform(1, 90))))
        if n % 5 == 0:
            both = {"customer": who, "terminal": where}
            rows["chargebacks"].append(chargeback(n, hours, hours + 24 * 6, **both))
            if n % 10 == 0:
                again = chargeback(n, hours, hours + 24 * 5, **both) | {"chargeback_id": f"again{n}"}
                rows["chargebacks"].append(again)
            if n % 15 == 0:
                rows["chargeback-reversals"].append(reversal(n, hours, hours + 24 * 8, **both))
        videos = rng.choice(20, 4, replace=False).tolist()
        rows["impressions"].append(page(n, hours, videos, viewer=f"w{n % 4}"))
        rows["watches"].append(watch(n, hours + 0.2, videos[0], viewer=f"w{n % 4}", completion=0.75))
    for row in (*rows["impressions"], *rows["watches"]):
        for name, value in row.items():
            if name == "video_ids":
                row[name] = [each.replace("m", "v") for each in value]
            elif name == "video_id":
                row[name] = value.replace("m", "v")
    catalogue = zip(
        RANKER.video_ids, RANKER.durations.tolist(), RANKER.published.tolist(), RANKER.categories.tolist(), strict=True
    )
    rows["videos"] = [
        video(0, 0, seconds=seconds, category=CATEGORIES[category])
        | {"video_id": name, "event_timestamp": moment_of(published)}
        for name, seconds, published, category in catalogue
    ]
    return rows


@dataclass(slots=True)
class Scene:
    """Asks the service's functions about moments of the lake, as a stream that lags would let them answer."""

    root: Path
    rows: dict[str, list[Row]] = field(default_factory=happened)
    log: list[PredictionLogged] = field(default_factory=list)
    version: str = "1"

    def __post_init__(self) -> None:
        for topic, rows in self.rows.items():
            put(self.paths.lake, topic, *rows)

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.root)

    def payments(self, last: int) -> list[Row]:
        """The newest payments but those of the last day."""
        return [row for row in self.rows["transactions"] if row["event_timestamp"] < at(HOURS - 24)][-last:]

    def store(self, as_of: datetime) -> States:
        """What the online store holds of viewers and videos when the stream has come to `as_of`."""
        found = States()
        for view in VIEWS:
            for key, time, state in states(view, self.paths.lake, as_of):
                found[view.name, key] = (state, time)
        return found

    def cards(self, as_of: datetime) -> States:
        """The same for the views of payments, without a pass over the lake for every payment."""
        found = States()
        customers: dict[str, list[tuple[datetime, dict[str, float]]]] = defaultdict(list)
        terminals: dict[str, list[tuple[datetime, datetime, dict[str, float]]]] = defaultdict(list)
        for row in self.rows["transactions"]:
            moment = row["event_timestamp"]
            if moment <= as_of:
                customers[row["customer_id"]].append((moment, {"transactions": 1.0, "amount": row["amount"]}))
                terminals[row["terminal_id"]].append((moment, moment, {"transactions": 1.0}))
        known = {
            topic: [row for row in self.rows[topic] if row["created_timestamp"] <= as_of]
            for topic in ("chargebacks", "chargeback-reversals")
        }
        taken_back = {row["chargeback_id"] for row in known["chargeback-reversals"]}
        stands = {row["transaction_id"] for row in known["chargebacks"] if row["chargeback_id"] not in taken_back}
        for row in (*known["chargebacks"], *known["chargeback-reversals"]):
            # A payment's first row has its fraud, if it is one.
            value = float(row["transaction_id"] in stands)
            stands.discard(row["transaction_id"])
            told = (row["created_timestamp"], row["event_timestamp"], {"frauds": value})
            terminals[row["terminal_id"]].append(told)
        for key, paid in customers.items():
            found.put_rows(CUSTOMER_ACTIVITY, key, paid)
        for key, facts in terminals.items():
            tail = found.put_rows(TERMINAL_RISK, key, [fact[1:] for fact in facts])
            found.put(TERMINAL_RISK, key, tail.pack(), max(fact[0] for fact in facts))
        return found

    def score(
        self, row: Row, *, lag: timedelta = MICRO, read: ReadStates | None = None, **changes: Any
    ) -> PredictionLogged:
        """Ask about a payment just before it happens."""
        moment = changes.pop("moment", row["event_timestamp"])
        names = ("transaction_id", "customer_id", "terminal_id", "amount")
        request = FraudScoreRequest(**{name: row[name] for name in names} | changes)
        reads = self.cards(moment - lag) if read is None else read
        scored = fraud_scoring.score_payment(request, moment, FRAUD, reads)
        answer = fraud_scoring.score_answer(request, scored, self._evaluation(moment))
        return self._keep(fraud_scoring.score_record(request, answer, scored, latency_ms=1.0))

    def recommend(self, viewer: str, moment: datetime, *, refreshed: datetime, k: int = 5) -> PredictionLogged:
        """Ask for a page, with a catalogue that was refreshed some time ago."""
        reads = self.store(moment)
        catalogue = refresh_catalogue(RANKER, reads if refreshed == moment else self.store(refreshed), refreshed)
        found = recommending.compose(viewer, k, moment, catalogue, reads)
        answer = recommending.page_answer(RecommendationRequest(viewer_id=viewer), found, self._evaluation(moment))
        return self._keep(recommending.page_record(answer, found, latency_ms=1.0))

    def write(self) -> None:
        """The log as ingestion leaves it."""
        count = len(self.log)
        table = delta_lake.to_table(PREDICTIONS, self.log, [0] * count, range(count))
        delta_lake.append(self.paths.lake, PREDICTIONS, table, versions={0: count - 1})

    def change(self, number: int, **changes: Any) -> None:
        self.log[number] = msgspec.structs.replace(self.log[number], **changes)

    def _evaluation(self, moment: datetime) -> AnswerIdentity:
        return AnswerIdentity(
            prediction_id=f"q{len(self.log)}",
            model_version=self.version,
            moment=moment,
            now=moment + timedelta(seconds=1),
        )

    def _keep(self, record: PredictionLogged) -> PredictionLogged:
        self.log.append(record)
        return record


def no_store(_view: View | tuple[View, ...], _keys: Sequence[str]) -> NoReturn:
    raise FeaturesUnavailable("down")
