"""The online-read benchmark in small: it runs, compares the same bytes, and leaves nothing behind."""

from __future__ import annotations

import pytest

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.proofs.benchmarks import online_read as bench_online_read


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench_online_read, "CUSTOMERS", 120)
    monkeypatch.setattr(bench_online_read, "TERMINALS", 240)
    monkeypatch.setattr(bench_online_read, "PAYMENTS_A_DAY", 240)


@pytest.mark.usefixtures("small")
def test_every_contender_is_measured_in_every_lap_and_nothing_is_left(settings):
    told = []
    result = bench_online_read.measure_online_read(
        settings, asked=40, laps=2, progress=lambda share, text: told.append((share, text))
    )
    assert [len(figure.laps) for figure in result.figures] == [2] * 8
    assert all(lap > 0 for figure in result.figures for lap in figure.laps)
    assert {goal.kind for goal in result.goals} == {"at least", "at most"}
    assert told[-1] == (1.0, "done")
    assert not list(StatePaths(settings.state_dir).scratch.glob("*"))


def test_different_bytes_end_the_benchmark():
    bench_online_read._compare([b"same", None], [b"same", None])
    with pytest.raises(StateError, match="different bytes"):
        bench_online_read._compare([b"one"], [b"other"])
