"""Parity from end to end: the service's endpoint → Kafka → ingestion → lake → the check, with skews planted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import count

import msgspec
import pytest
from local_broker import free_port_offset, small_settings
from prometheus_client import CollectorRegistry
from served_models import fraud_model_for_tests
from typer.testing import CliRunner

from reference_system import cli
from reference_system.clock import FixedClock
from reference_system.events import PREDICTIONS, Event, encode
from reference_system.features.feast.store import apply, open_store, read_states, write_states
from reference_system.features.stream.deduplication import Outcome
from reference_system.flows.ingestion import setup as ingestion_setup
from reference_system.flows.ingestion.loop import IngestionLoop
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.lake.delta_lake import read
from reference_system.paths import StatePaths
from reference_system.proofs.kafka_raw_producer import DrillProducer, RawMessage
from reference_system.proofs.parity.comparison import FeatureParity, ParityReport
from reference_system.proofs.parity.duckdb_parity import check_parity
from reference_system.serving.answering import FRAUD_PATH, Answering
from reference_system.serving.champions import Loaded
from reference_system.serving.fraud import scoring as fraud_scoring
from reference_system.serving.prediction_log.kafka_log import OUTCOMES, PredictionLog
from reference_system.serving.prediction_log.spool import Spool
from reference_system.serving.prometheus_metrics import ServingMetrics
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.use_cases import BROKER_TOPICS, TOPICS, VIEWS
from reference_system.use_cases.fraud.events import TOPICS as FRAUD_TOPICS
from reference_system.use_cases.fraud.events import ChargebackReported, ChargebackReversed, Transaction
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS, TERMINAL_RISK

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
# A Wednesday, 06:00 UTC. Each test begins a hundred days after the one before: the stream never goes back.
START = datetime(2025, 1, 1, 6, tzinfo=UTC)
_numbers = count()


@dataclass(slots=True)
class Live:
    """A system in one process: everything real but the process boundaries."""

    settings: Settings
    start: datetime = field(default_factory=lambda: START + 100 * DAY * next(_numbers))
    asked: int = 0

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.settings.state_dir)

    def payment(self, after: timedelta, customer: int = 1, terminal: int = 1, amount: float = 10.0) -> Transaction:
        """A payment so long after the start of the test; nobody else has its customer and terminal."""
        moment = self.start + after
        return Transaction(
            schema_version=1,
            event_timestamp=moment,
            transaction_id=f"x{moment:%Y%m%dT%H%M%S.%f}-{customer}",
            customer_id=f"c{customer}-{self.start:%Y%m%d}",
            terminal_id=f"t{terminal}-{self.start:%Y%m%d}",
            amount=amount,
        )

    def play(self, events: Sequence[Event]) -> ParityReport:
        """Ask about each payment, then let it happen; let time go on, and compare."""
        with self.consumer() as loop, self.service() as ask, DrillProducer(self.settings.kafka_bootstrap) as producer:
            for event in events:
                if isinstance(event, Transaction):
                    ask(event)
                happen(producer, loop, event)
            happen(producer, loop, self.payment(95 * DAY, customer=0, terminal=0))
        with self.consumer() as loop:
            catch_up(loop)
        return check_parity(self.paths, "fraud", start=self.start, end=self.start + 94 * DAY)

    @contextmanager
    def consumer(self) -> Iterator[IngestionLoop]:
        push = partial(write_states, open_store(self.paths))
        metrics = IngestionMetrics(TOPICS, Outcome, registry=CollectorRegistry())
        clock = FixedClock(self.start + 99 * DAY)
        with ingestion_setup.open_loop(self.settings, push=push, metrics=metrics, clock=clock) as loop:
            yield loop
            loop.finish()

    @contextmanager
    def service(self) -> Iterator[Callable[[Transaction], None]]:
        """The service's own endpoint with its own prediction log."""
        model = fraud_model_for_tests()
        metrics = ServingMetrics(endpoints=(), views=tuple(view.name for view in VIEWS), log_outcomes=OUTCOMES)
        log = PredictionLog(
            self.settings.kafka_bootstrap,
            Spool(self.paths.spool / "predictions.tsv"),
            count=lambda _outcome, _number: None,
            report=lambda _event, _reason: None,
        )
        answering = Answering(
            fraud=lambda: Loaded(version=model.version, model=model),
            catalogue=lambda: None,
            read=partial(read_states, open_store(self.paths)),
            clock=FixedClock(self.start + 99 * DAY),
            new_id=self.new_id,
            log=log.add,
            metrics=metrics,
        )
        endpoint = answering.routes()[FRAUD_PATH]["POST"]

        def ask(event: Transaction) -> None:
            names = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
            endpoint(msgspec.json.encode({name: getattr(event, name) for name in names}))

        log.start()
        try:
            yield ask
        finally:
            log.stop()

    def new_id(self) -> str:
        self.asked += 1
        return f"p{self.start:%Y%m%d}-{self.asked}"


def happen(producer: DrillProducer, loop: IngestionLoop, event: Event) -> None:
    (topic,) = (topic for topic in FRAUD_TOPICS if topic.record is type(event))
    producer.send([RawMessage(topic.name, topic.key_of(event).encode(), encode(event))])
    catch_up(loop)


def taken_back(report: ChargebackReported, after: timedelta) -> ChargebackReversed:
    fields = msgspec.structs.asdict(report) | {"created_timestamp": report.event_timestamp + after}
    return ChargebackReversed(**fields)


def catch_up(loop: IngestionLoop) -> None:
    while not loop.caught_up():
        loop.step()


def chargeback(of: Transaction, after: timedelta) -> ChargebackReported:
    return ChargebackReported(
        schema_version=1,
        event_timestamp=of.event_timestamp,
        created_timestamp=of.event_timestamp + after,
        chargeback_id=f"b-{of.transaction_id}",
        transaction_id=of.transaction_id,
        customer_id=of.customer_id,
        terminal_id=of.terminal_id,
    )


def rates(live: Live) -> dict[str, float]:
    """The terminal's share of frauds in 30 days that each payment of the test was served."""
    columns = ("request_id", "features")
    log = read(live.paths.lake, PREDICTIONS, start=live.start, end=live.start + 94 * DAY, columns=columns)
    place = INPUTS.index("terminal_fraud_rate_30d")
    return {row["request_id"]: row["features"][place] for row in log.read_all().to_pylist()}


def of_feature(report: ParityReport, name: str) -> FeatureParity:
    return next(each for each in report.features if each.feature == name)


def with_errors(report: ParityReport) -> set[str]:
    return {each.feature for each in report.features if each.errors}


@pytest.fixture(scope="module")
def system(tmp_path_factory, launch_broker) -> Iterator[Settings]:
    """A broker of its own: these tests use the topics by their real names."""
    settings = small_settings(tmp_path_factory.mktemp("parity") / "state", free_port_offset())
    with launch_broker(settings):
        ensure_topics(settings.kafka_bootstrap, BROKER_TOPICS, settings.kafka_partitions)
        apply(open_store(StatePaths(settings.state_dir)))
        yield settings


@pytest.fixture
def live(system) -> Live:
    return Live(system)


def a_month(live: Live) -> list[Event]:
    """Payments in all windows, at their edges and at night, with labels in time and too late."""
    paid = [
        live.payment(after, customer, terminal, 10.0 + number)
        for number, (after, customer, terminal) in enumerate(
            [
                (0 * DAY, 1, 1),
                (0 * DAY + SECOND, 2, 1),
                (1 * DAY - SECOND / 2, 1, 1),
                (1 * DAY + SECOND / 2, 2, 2),
                (4 * DAY + 17 * HOUR, 1, 2),
                (7 * DAY, 1, 1),
                (8 * DAY - SECOND / 2, 2, 1),
                (8 * DAY, 2, 1),
                (30 * DAY, 1, 2),
                (37 * DAY, 1, 1),
                (38 * DAY, 2, 1),
            ]
        )
    ]
    labels = [chargeback(paid[0], 3 * DAY), chargeback(paid[1], 7 * DAY), chargeback(paid[2], 9 * DAY)]
    known = [(event.event_timestamp, event) for event in paid] + [(each.created_timestamp, each) for each in labels]
    return [event for _, event in sorted(known, key=lambda pair: (pair[0], isinstance(pair[1], Transaction)))]


def test_without_a_skew_everything_matches(live):
    report = live.play(a_month(live))
    assert (report.predictions, report.degraded, report.predictions_without_event) == (11, 0, 0)
    assert (report.all_features.match, report.all_features.mismatch, report.all_features.missing) == (11 * 15, 0, 0)
    assert report.events_without_prediction == 0


def test_disputes_that_come_twice_and_are_taken_back_match(live):
    paid = [live.payment(0 * DAY), live.payment(0 * DAY + SECOND, customer=2), live.payment(1 * DAY, customer=3)]
    first = chargeback(paid[0], 2 * DAY)
    second = msgspec.structs.replace(first, chargeback_id="another", created_timestamp=first.event_timestamp + 3 * DAY)
    mistake = chargeback(paid[1], 4 * DAY)
    asking = [live.payment(days * DAY, customer=4) for days in (8, 9, 10, 11, 12)]
    report = live.play(
        [
            *paid,
            first,
            second,
            mistake,
            asking[0],
            taken_back(mistake, 8 * DAY + HOUR),
            asking[1],
            taken_back(first, 9 * DAY + HOUR),
            asking[2],
            taken_back(second, 10 * DAY + HOUR),
            *asking[3:],
        ]
    )
    assert (report.predictions, report.all_features.mismatch) == (8, 0)
    found = rates(live)
    assert [found[each.transaction_id] for each in asking] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0.0, 0.0])


def test_a_window_that_is_wrong_by_one_second_is_caught(live, monkeypatch):
    windows = [
        replace(window, days=window.days - 1 / 86_400) if window.days == 1 else window
        for window in CUSTOMER_ACTIVITY.windows
    ]
    monkeypatch.setattr(fraud_scoring, "CUSTOMER_ACTIVITY", replace(CUSTOMER_ACTIVITY, windows=tuple(windows)))
    report = live.play(a_month(live))
    assert with_errors(report) == {"customer_transaction_count_1d", "customer_mean_amount_1d"}
    assert report.all_features.explained_by_lag == 0
    found = next(each for each in report.differences if each.feature == "customer_transaction_count_1d")
    assert (found.served, found.recomputed) == (1.0, 2.0)


def test_a_late_label_that_is_used_early_is_caught(live, monkeypatch):
    # The consumer forgets that a label counts only if it was known within the delay, and gets one before its time.
    rows = tuple(replace(each, known_within_days=None) for each in TERMINAL_RISK.rows)
    forgetful = tuple(replace(view, rows=rows) if view.name == TERMINAL_RISK.name else view for view in VIEWS)
    monkeypatch.setattr(ingestion_setup, "VIEWS", forgetful)
    paid, asking = live.payment(0 * DAY), live.payment(8 * DAY, customer=2)
    report = live.play([paid, chargeback(paid, 12 * DAY), asking])
    assert with_errors(report) == {f"terminal_fraud_rate_{days}d" for days in (7, 30)}
    assert of_feature(report, "terminal_fraud_rate_7d").errors == 1
    found = next(each for each in report.differences if each.feature == "terminal_fraud_rate_7d")
    assert (found.served, found.recomputed, found.explained_by_lag) == (1.0, 0.0, False)


def test_a_wrong_time_zone_is_caught(live, monkeypatch):
    inputs_of = fraud_scoring.payment_inputs
    summer_time = timezone(2 * HOUR)

    def local(request, moment, read):
        return inputs_of(request, moment.astimezone(summer_time).replace(tzinfo=UTC), read)

    monkeypatch.setattr(fraud_scoring, "payment_inputs", local)
    saturday = ((5 - live.start.weekday()) % 7 or 7) * DAY  # a whole one, and the Friday before it
    events = [
        live.payment(saturday - 7 * HOUR),  # Friday 23:00
        live.payment(saturday),  # Saturday 06:00: night
        live.payment(saturday + DAY - HOUR),  # one hour less than a day later
        live.payment(saturday + 3 * DAY, customer=2),
    ]
    report = live.play(events)
    assert {"is_weekend", "is_night", "customer_transaction_count_1d"} <= with_errors(report)
    assert of_feature(report, "is_weekend").errors == 1
    assert of_feature(report, "is_night").errors >= 1
    assert of_feature(report, "amount").errors == 0


def test_the_command_says_what_it_found(live, monkeypatch):
    live.play([live.payment(0 * DAY), live.payment(1 * DAY)])
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(live.settings.state_dir))
    until = f"{live.start + 94 * DAY:%Y-%m-%d}"
    arguments = ["features", "parity", "fraud", "--from", f"{live.start:%Y-%m-%d}", "--to", until]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "no unexplained difference in 30 values" in shown.output
    as_json = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert msgspec.json.decode(as_json.stdout, type=ParityReport).predictions == 2
    empty = CliRunner().invoke(cli.app, ["features", "parity", "recommendation"])
    assert empty.exit_code == 1
    assert "no prediction for recommendation can be compared yet" in empty.output
