"""Several consumers of one stream: what 1, 2 and 4 of them leave behind is equal to the byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial

import pytest
from ingestion_harness import (
    Ingestion,
    Killed,
    Message,
    assert_same,
    catch_up,
    empty_topics,
    kill_at,
    message,
    mixed,
    new_ingestion,
    produce,
)
from local_broker import free_port_offset, small_settings
from sample_events import NOW, example

from reference_system.errors import StateError
from reference_system.features.stream.rebuild import remove_sqlite
from reference_system.features.stream.snapshot import task_file
from reference_system.flows.ingestion.loop import FaultPoint
from reference_system.ingestion import delta_sink
from reference_system.stack.kafka.topics import end_offsets
from reference_system.use_cases import topic_named

PARTITIONS = 4


@pytest.fixture(scope="module")
def broker(tmp_path_factory, launch_broker):
    """A broker of its own: these tests use the topics by their real names, and delete them."""
    settings = small_settings(tmp_path_factory.mktemp("broker") / "state", free_port_offset())
    assert settings.kafka_partitions == PARTITIONS
    with launch_broker(settings) as running:
        yield running


@pytest.fixture
def topics(broker):
    """The broker with every topic, empty."""
    empty_topics(broker)
    return broker


@pytest.fixture
def make_ingestion(topics, tmp_path) -> Callable[[str], Ingestion]:
    """An ingestion with empty state in a folder of that name."""
    return lambda name: new_ingestion(topics, tmp_path / name)


@pytest.fixture
def send(topics) -> Callable[[Sequence[Message]], None]:
    return partial(produce, topics.bootstrap)


@pytest.fixture
def whole(make_ingestion) -> Callable[[], Ingestion]:
    """What one consumer makes of everything at once."""

    def run() -> Ingestion:
        ingestion = make_ingestion("whole")
        ingestion.run()
        return ingestion

    return run


@pytest.mark.parametrize("consumers", [2, 4])
def test_any_number_of_consumers_leaves_what_one_leaves(consumers: int, make_ingestion, send, whole, broker):
    send(mixed(1, 700))
    several = make_ingestion("several")
    several.run(consumers=consumers)
    forwarded = end_offsets(broker.bootstrap, ["repartition"])
    assert forwarded["repartition"] > 0
    assert set(several.totals()) == {"counted", "duplicate", "late", "dead_lettered"}
    assert_same(several, whole())


def test_rescaling_between_runs_loses_nothing(make_ingestion, send, whole):
    several = make_ingestion("several")
    for part, consumers in enumerate((4, 1, 2)):
        send(mixed(30 + part, 200))
        several.run(consumers=consumers)
    assert {task.epoch for task in several.snapshots()} == {3}
    assert_same(several, whole())


@pytest.mark.parametrize("point", ["state committed", "rows forwarded", "lake committed"])
def test_a_kill_of_one_of_two_consumers_changes_nothing(point: FaultPoint, make_ingestion, send, whole):
    several = make_ingestion("several")
    send(mixed(40, 400))
    with several.consumer([0, 2]) as survivor:
        for times in (1, 2, 3):
            with suppress(Killed), several.consumer([1, 3], kill_at(point, times)) as other:
                catch_up([survivor, other])
                other.finish()
        with several.consumer([1, 3]) as other:
            catch_up([survivor, other])
            survivor.finish()
            other.finish()
    assert_same(several, whole())


def test_a_task_that_is_lost_while_the_others_go_on_is_built_again(make_ingestion, send, whole):
    several = make_ingestion("several")
    with several.consumer([0, 1, 2]) as others:
        for part in range(3):
            send(mixed(50 + part, 200))
            with several.consumer([3]) as lost:
                catch_up([others, lost])
                lost.finish()
            send(mixed(60 + part, 100))
            catch_up([others])
            remove_sqlite(task_file(several.paths.stream_tasks, 3))
        with several.consumer([3]) as lost:
            catch_up([others, lost])
            lost.finish()
        others.finish()
    assert_same(several, whole())


def test_a_consumer_that_was_replaced_is_refused_and_loses_nothing(make_ingestion, send, whole):
    ingestion = make_ingestion("replaced")
    send(mixed(70, 300))
    with ingestion.consumer() as old:
        while old.step():
            pass
        lake = ingestion.lake()
        with ingestion.consumer() as new:
            with pytest.raises(StateError, match="another consumer took over"):
                old.finish()
            assert ingestion.lake() == lake, "what it had gathered is not committed"
            send(mixed(71, 300))
            before = ingestion.digest()
            with pytest.raises(StateError, match="another consumer took over"):
                catch_up([old])
            assert ingestion.digest() == before
            catch_up([new])
            new.finish()
    assert_same(ingestion, whole())


def test_half_of_the_tasks_can_be_taken_over(make_ingestion, send, whole):
    ingestion = make_ingestion("half")
    send(mixed(72, 300))
    with ExitStack() as opened:
        first = opened.enter_context(ingestion.consumer())
        first.step()
        halves = [opened.enter_context(ingestion.consumer(tasks)) for tasks in ([0, 1], [2, 3])]
        send(mixed(73, 50))
        with pytest.raises(StateError, match="another consumer took over"):
            catch_up([first])
        catch_up(halves)
        for half in halves:
            half.finish()
    assert_same(ingestion, whole())


def test_rows_are_with_the_broker_before_the_lake_has_their_events(make_ingestion, send, monkeypatch):
    """What the lake has is not read again: a task that lost its outbox after that could never send its rows."""
    monkeypatch.setattr(delta_sink, "FLUSH_SECONDS", 0.0)
    ingestion = make_ingestion("outbox")
    topic = topic_named("transactions")
    waiting: list[int] = []

    def look(point: FaultPoint) -> None:
        if point == "lake committed":
            waiting.append(sum(len(state.outbox()) for state in loop._tasks.values()))

    with ingestion.consumer(fault=look) as loop:
        for number in range(5):
            payments = [(f"x{number}-{n}", f"c{n}", f"t{n}") for n in range(40)]
            names = ("transaction_id", "customer_id", "terminal_id")
            events = [example("transactions", **dict(zip(names, each, strict=True))) for each in payments]
            send([message(topic, each) for each in events])
            catch_up([loop])
    assert len(waiting) >= 5
    assert not any(waiting)


def test_after_a_loss_the_online_store_follows_events_that_are_older_than_the_newest(make_ingestion, send):
    ingestion = make_ingestion("lost")
    topic = topic_named("transactions")
    send([message(topic, example("transactions", transaction_id=f"x{n}")) for n in range(5)])
    send(mixed(80, 300))
    ingestion.run()
    for task in range(PARTITIONS):
        remove_sqlite(task_file(ingestion.paths.stream_tasks, task))
    earlier = example("transactions", transaction_id="x9", event_timestamp=NOW - timedelta(hours=1))
    send([message(topic, earlier)])
    ingestion.run()
    assert ingestion.online() == ingestion.states()
