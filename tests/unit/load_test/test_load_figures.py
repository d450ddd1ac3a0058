"""The figures of a load test are honest about failures, stalls and the generator itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_system.load_test.figures import figures_of, latencies, percentile, seconds_of
from reference_system.load_test.plan import LoadPlan, read_profile
from reference_system.load_test.samples import (
    GeneratorProgress,
    Recorder,
    Samples,
    load_samples,
    read_progress,
    write_progress,
)

_, SHAPE = read_profile("both")
PLAN = LoadPlan(
    url="http://127.0.0.1:3000",
    run="20250303T120000Z",
    rate=100.0,
    seconds=20.0,
    warm_up_seconds=2.0,
    seed=1,
    shares={"fraud": 0.6, "recommendation": 0.4},
    shape=SHAPE,
    customers=100,
    terminals=200,
    viewers=50,
)
COUNT = 2_200


def samples_of(latency_ms: float = 4.0, **columns: object) -> Samples:
    """One request every 10 ms for 22 s, all answered after `latency_ms`, but for the columns given."""
    due = np.arange(COUNT) / 100
    values: dict[str, object] = {
        "due": due,
        "lag": np.full(COUNT, 0.0005),
        "latency": np.full(COUNT, latency_ms / 1_000),
        "endpoint": np.arange(COUNT) % 2,
        "outcome": np.zeros(COUNT, dtype=np.int64),
        "degraded": np.zeros(COUNT, dtype=np.bool_),
        "endpoints": ("fraud", "recommendation"),
        "outcomes": ("", "HTTP 503"),
    }
    return Samples(**{**values, **columns})


def test_a_run_in_which_all_is_well_raises_no_doubt():
    figures = figures_of(samples_of(), PLAN)
    assert figures.doubts == ()
    assert figures.rates.arrived == 100.0
    assert figures.rates.achieved == pytest.approx(100.0, abs=0.1)
    assert figures.endpoints["all"].p99_ms == pytest.approx(4.0)


def test_the_warm_up_is_left_out_of_every_figure():
    slow_start = np.where(np.arange(COUNT) < 200, 3.0, 0.004)
    row = figures_of(samples_of(latency=slow_start), PLAN).endpoints["all"]
    assert row.requests == 2_000
    assert row.max_ms == pytest.approx(4.0)


def test_each_endpoint_has_a_row_of_its_own():
    latency = np.where(np.arange(COUNT) % 2 == 0, 0.002, 0.006)
    rows = figures_of(samples_of(latency=latency), PLAN).endpoints
    assert (rows["fraud"].p50_ms, rows["recommendation"].p50_ms) == pytest.approx((2.0, 6.0))
    assert rows["fraud"].requests + rows["recommendation"].requests == rows["all"].requests


def test_a_request_that_failed_fast_makes_no_percentile_better():
    outcome = (np.arange(COUNT) % 50 == 0).astype(np.int64)
    failing = samples_of(outcome=outcome, latency=np.where(outcome == 1, 0.0001, 0.004))
    row = figures_of(failing, PLAN).endpoints["all"]
    assert row.errors == {"HTTP 503": 40}
    assert row.p95_ms == pytest.approx(4.0)
    assert row.p99_ms is None
    assert row.max_ms == pytest.approx(4.0)


def test_a_late_generator_is_named():
    late = figures_of(samples_of(lag=np.where(np.arange(COUNT) % 50 == 0, 0.03, 0.0005)), PLAN)
    assert any("generator was a bottleneck" in doubt for doubt in late.doubts)


def test_a_lag_that_is_small_beside_a_stall_of_the_service_is_no_doubt():
    stalled = samples_of(latency_ms=900.0, lag=np.full(COUNT, 0.03))
    assert not any("generator" in doubt for doubt in figures_of(stalled, PLAN).doubts)


def test_a_service_that_falls_behind_is_named_although_it_answers_everything_in_the_end():
    due = np.arange(COUNT) / 100
    figures = figures_of(samples_of(latency=due * 0.5), PLAN)
    assert figures.rates.achieved == pytest.approx(100 / 1.5, rel=0.02)
    assert any("did not keep up" in doubt for doubt in figures.doubts)


def test_a_short_run_says_on_how_few_requests_its_p99_rests():
    few = samples_of(due=np.linspace(0, 300, COUNT))
    assert any("p99 rests on" in doubt for doubt in figures_of(few, PLAN).doubts) is False
    row = latencies(few, few.due < 20)
    assert row.requests < 1_000


def test_degraded_answers_are_counted_and_named():
    figures = figures_of(samples_of(degraded=np.arange(COUNT) >= 2_100), PLAN)
    assert figures.endpoints["all"].degraded == 100
    assert any("degraded" in doubt for doubt in figures.doubts)


def test_a_second_has_the_latencies_of_the_requests_due_in_it_and_the_answers_given_in_it():
    due = np.arange(COUNT) / 100
    stall = np.where((due >= 5) & (due < 6), 6.5 - due, 0.004)
    seconds = seconds_of(samples_of(latency=stall), PLAN)
    assert len(seconds) == 22
    assert seconds[5].arrived == 100
    assert seconds[5].answered < 5
    assert seconds[6].answered > 190
    assert seconds[5].p50_ms == pytest.approx(1_000, abs=20)
    assert seconds[7].p99_ms == pytest.approx(4.0)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent, expected):
    assert percentile(np.arange(1.0, 101.0), percent) == expected


def test_without_requests_there_is_no_percentile():
    assert percentile(np.array([]), 99) is None


def test_samples_come_back_as_they_were_recorded(tmp_path: Path):
    recorder = Recorder(("fraud", "recommendation"))
    recorder.add(due=0.5, lag=0.001, latency=0.01, endpoint="recommendation", outcome="", degraded=True)
    recorder.add(due=0.7, lag=0.002, latency=10.0, endpoint="fraud", outcome="no answer in time", degraded=False)
    recorder.save(tmp_path / "samples.npz")
    read = load_samples(tmp_path / "samples.npz")
    assert read.due.tolist() == [0.5, 0.7]
    assert [read.endpoints[index] for index in read.endpoint] == ["recommendation", "fraud"]
    assert [read.outcomes[index] for index in read.outcome] == ["", "no answer in time"]
    assert read.degraded.tolist() == [True, False]


def test_progress_is_absent_before_it_is_first_written(tmp_path: Path):
    progress = GeneratorProgress(elapsed=1.0, answered=2, failed=1, waiting=0, p50_ms=1.5, p99_ms=9.0)
    assert read_progress(tmp_path / "progress.json") is None
    write_progress(tmp_path / "progress.json", progress)
    assert read_progress(tmp_path / "progress.json") == progress
