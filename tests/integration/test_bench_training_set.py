"""`bench training-set` in small: three processes, the same rows, nothing left behind."""

from __future__ import annotations

import pyarrow as pa
import pytest

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.proofs.benchmarks import training_set as bench_training_set
from reference_system.proofs.benchmarks.training_set import measure_training_set, rows_differing


def test_all_ways_return_the_same_rows_and_leave_nothing_behind(settings):
    said = []
    result = measure_training_set(
        settings, asked=300, facts=4_000, laps=1, progress=lambda share, text: said.append((share, text))
    )
    differing = next(goal for goal in result.goals if "differ" in goal.what)
    assert (differing.found, differing.reached) == (0, True)
    assert {figure.unit: len(figure.laps) for figure in result.figures} == {"s": 1, "CPU s": 1, "MB": 1}
    assert all(figure.median > 0 for figure in result.figures if figure.unit != "MB")
    assert [share for share, _ in said] == sorted(share for share, _ in said)
    scratch = StatePaths(settings.state_dir).scratch
    assert not scratch.exists() or not list(scratch.iterdir())


def test_a_way_that_fails_says_why(tmp_path):
    with (
        pytest.raises(StateError, match=r"ended with code 1: .*asked\.parquet"),
        bench_training_set._process("by hand", tmp_path),
    ):
        pass


def test_rows_are_compared_by_what_they_hold_not_by_where_they_stand():
    one = pa.table({"payment": [1, 2, 3], "value": [0.5, None, 2.0]})
    assert rows_differing(one, one.take([2, 0, 1])) == 0
    assert rows_differing(one, pa.table({"payment": [1, 2, 3], "value": [0.5, 1.0, 3.0]})) == 2
    assert rows_differing(one, one.slice(1)) == 3
    assert rows_differing(one, one.rename_columns(["payment", "other"])) == 3
