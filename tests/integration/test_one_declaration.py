"""A feature is declared once: this file declares one, and finds it in history, stream, online store and Feast."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import timedelta

import numpy as np
import pytest
from sample_events import NOW, example

from reference_system.event_time import micros
from reference_system.features.feast import objects as feast_objects
from reference_system.features.feast import store as feast_store
from reference_system.features.history.values import feature_rows
from reference_system.features.stream.deduplication import PolledBatch
from reference_system.features.stream.forwarding import decode_forwarded
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.rebuild import rebuild_tasks
from reference_system.features.stream.snapshot import task_file
from reference_system.features.stream.state import StreamState
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.use_cases import TOPICS, topic_named
from reference_system.windows import Rows, WindowedView, evaluate, ratio, total, unpack_tail

PAYMENTS = topic_named("transactions")
TASKS = 3

# The one declaration. Terminals are not what payments are keyed by, so the rows cross between tasks, too.
DECLARED = WindowedView(
    name="terminal_takings",
    entity="terminal_id",
    rows=(Rows(topic="transactions", entity="terminal_id", values=(("payments", 1.0), ("amount", "amount"))),),
    windows=(
        total("terminal_takings_36h", "amount", days=1.5),
        ratio("terminal_mean_payment_5d", "amount", "payments", days=5, delay_days=2),
    ),
    asked_by=Rows(topic="transactions", entity="terminal_id", values=()),
)


@pytest.fixture(scope="module")
def payments():
    rng = np.random.default_rng(11)
    hours = np.sort(rng.uniform(0, 24 * 14, 300))
    return [
        example(
            "transactions",
            transaction_id=f"x{number}",
            customer_id=f"c{rng.integers(40)}",
            terminal_id=f"t{rng.integers(6)}",
            amount=float(rng.integers(1, 20_000)) / 100,
            event_timestamp=NOW + timedelta(hours=float(hour)),
        )
        for number, hour in enumerate(hours)
    ]


@pytest.fixture(scope="module")
def history(payments, tmp_path_factory):
    """(terminal, µs) → the declared features, from SQL over the lake."""
    lake = tmp_path_factory.mktemp("declared") / "lake"
    nowhere = [delta_lake.NO_OFFSET] * len(payments)
    delta_lake.append(lake, PAYMENTS, delta_lake.to_table(PAYMENTS, payments, nowhere, nowhere), versions={})
    table = feature_rows(DECLARED, lake, NOW, NOW + timedelta(days=15)).to_pylist()
    return {
        (row["terminal_id"], micros(row["event_timestamp"])): [row[name] for name in DECLARED.features]
        for row in table
    }


def test_history_stream_and_online_store_have_it_and_agree(payments, history, tmp_path, monkeypatch):
    monkeypatch.setattr(feast_objects, "VIEWS_OF", {"fraud": (DECLARED,)})
    monkeypatch.setattr(feast_store, "VIEWS", (DECLARED,))
    store = feast_store.open_store(StatePaths(tmp_path))
    feast_store.apply(store)
    offsets = dict.fromkeys(range(TASKS), 0)
    nothing = {"count_dead_letters": lambda _: {}, "report": lambda _: None}
    rebuild_tasks(
        tmp_path / "tasks", tmp_path / "lake", TOPICS, [DECLARED], build=range(TASKS), tasks=TASKS, **nothing
    )
    with ExitStack() as opened:
        tasks = [
            opened.enter_context(
                closing(StreamState(task_file(tmp_path / "tasks", task), [DECLARED], task=task, tasks=TASKS))
            )
            for task in range(TASKS)
        ]
        for payment in payments:
            source = partition_of(payment.customer_id, TASKS)
            tasks[source].apply([PolledBatch(PAYMENTS, [offsets[source]], [payment])])
            offsets[source] += 1
            for number, target, record in tasks[source].outbox():
                tasks[target].apply([], forwarded=[decode_forwarded(record)])
                tasks[source].mark_sent(number)
            for state in tasks:
                for view, rows in state.unpushed():
                    feast_store.write_states(store, view, rows)
                state.mark_pushed()
            at = micros(payment.event_timestamp)
            ((state, _),) = feast_store.read_states(store, DECLARED, [payment.terminal_id])
            served = evaluate(DECLARED, unpack_tail(DECLARED, state), at)
            np.testing.assert_allclose(served, history[payment.terminal_id, at], rtol=1e-12)
    assert len(history) == len(payments)
    assert np.ptp(list(history.values()), axis=0).min() > 1.0, "the features say something"


def test_feast_knows_it_as_view_online_view_and_service(tmp_path, monkeypatch):
    monkeypatch.setattr(feast_objects, "VIEWS_OF", {"fraud": (DECLARED,)})
    store = feast_store.open_store(StatePaths(tmp_path))
    feast_store.apply(store)
    names = [feature.name for feature in store.get_feature_view(DECLARED.name).features]
    assert names == list(DECLARED.features)
    assert store.get_feature_view(f"{DECLARED.name}_state").online
    (projection,) = store.get_feature_service("fraud_v1").feature_view_projections
    assert [feature.name for feature in projection.features] == list(DECLARED.features)
