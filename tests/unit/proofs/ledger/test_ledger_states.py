"""States against the recount: what is compared, and what is called which kind of difference."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reference_system.features.stream.task_file import TASK_TABLES
from reference_system.proofs.ledger.report import EXAMPLES, LedgerReport, StateLedger, TopicLedger, problem
from reference_system.proofs.ledger.states import StateComparison, compare_view
from reference_system.use_cases import VIEWS

ACTIVITY = next(view for view in VIEWS if view.name == "customer_activity")
RECENT = next(view for view in VIEWS if view.name == "viewer_recent_watches")
ROW = b"\0" * 8 * (1 + len(ACTIVITY.columns))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task-0.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(TASK_TABLES)
        rows = [("b", 1, ROW), ("é", 1, ROW), ("a", 1, ROW), ("Z", 1, ROW)]
        db.executemany("INSERT INTO state VALUES ('customer_activity', ?, ?, 0, ?)", rows)
        db.execute("INSERT INTO state VALUES ('another view', 'a', 1, 0, x'00')")
    return path


def test_equal_states_are_compared_and_nothing_else_is_said(task: Path):
    expected = [("Z", 1, ROW), ("a", 1, ROW), ("b", 1, ROW), ("é", 1, ROW)]
    assert compare_view(task, ACTIVITY, expected) == StateComparison(compared=4)


def test_each_kind_of_difference_is_told_apart(task: Path):
    expected = [("Y", 1, ROW), ("a", 2, ROW), ("b", 1, ROW * 2), ("c", 1, ROW), ("é", 1, ROW), ("ö", 1, ROW)]
    found = compare_view(task, ACTIVITY, expected)
    assert found.missing == ["Y", "c", "ö"]
    assert found.extra == ["Z"]
    assert found.different == ["a (time 1, recount 2)", "b (1 rows, recount 2)"]
    assert found.compared == 3
    assert [each.kind for each in found.problems("customer_activity")] == [
        "states that differ from the recount",
        "states that the recount has and no task",
        "states that a task has and not the recount",
    ]


def test_bytes_that_are_no_rows_are_a_difference_and_no_crash(task: Path):
    with sqlite3.connect(task) as db:
        db.execute("UPDATE state SET state = x'00' WHERE key = 'a'")
    found = compare_view(task, ACTIVITY, [("Z", 1, ROW), ("a", 1, ROW), ("b", 1, ROW), ("é", 1, ROW)])
    assert found.different == ["a (bytes that are no rows)"]


def test_a_view_without_states_has_only_missing_ones(task: Path):
    assert compare_view(task, RECENT, [("v1", 1, b"\x90")]) == StateComparison(missing=["v1"])


def test_a_problem_names_few_and_counts_all():
    (found,) = problem("kind", "where", [str(number) for number in range(50)], then="make clean")
    assert (found.count, len(found.examples)) == (50, EXAMPLES)
    assert "… (50 in all)" in found.for_person()
    (few,) = problem("kind", "where", ["a", "b"], then="make clean")
    assert few.for_person() == "where: kind: a, b; next: make clean"
    assert problem("kind", "where", [], then="make clean") == []


def test_lost_and_double_are_sums_over_the_topics():
    def line(topic: str, **differences: int) -> TopicLedger:
        names = (name for name in TopicLedger.__struct_fields__ if name != "topic")
        return TopicLedger(topic=topic, **{name: differences.get(name, 0) for name in names})

    states = StateLedger(**dict.fromkeys(StateLedger.__struct_fields__, 0))
    topics = [line("a", missing=2, double=1), line("b", missing=1, extra=4)]
    report = LedgerReport(topics=topics, states=states, digest="", problems=[], seconds=0.0)
    assert (report.lost, report.double) == (3, 5)
