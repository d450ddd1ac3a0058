"""The benchmark of the inputs measures what it says: the verb itself, at three sizes, beside equal values."""

from __future__ import annotations

import pandas as pd
import pytest
from own_files import bring, payments, ratings, request_for, request_for_ratings, written

from reference_system.errors import StateError
from reference_system.proofs import bench_features
from reference_system.proofs.bench_features import generated, imported, run, share_of


def quiet(_share, _text):
    """Progress that nobody watches."""


def test_every_size_is_measured_beside_pandas_with_equal_values(settings):
    result = run(settings, rows=4_000, laps=1, progress=quiet)

    assert [figure.unit for figure in result.figures] == ["s"] * 4 + ["CPU-s"] * 4 + ["MB peak"] * 4
    assert all(figure.median > 0 for figure in result.figures)
    assert "equal within 1e-6" in result.conditions["agreement"]
    assert len(result.goals) == 3
    assert not [path for path in settings.state_dir.rglob("*") if path.is_file()]


def test_unequal_values_end_the_benchmark(settings, monkeypatch):
    pandas = bench_features._pandas

    def wrong(folder, name):
        lap = pandas(folder, name)
        path = folder / f"{name}-pandas.parquet"
        frame = pd.read_parquet(path)
        frame.loc[7, "customer_mean_amount_7d"] += 0.01
        frame.to_parquet(path)
        return lap

    monkeypatch.setattr(bench_features, "_pandas", wrong)
    with pytest.raises(StateError, match=r"1 of .* rows differ from pandas"):
        run(settings, rows=1_000, laps=1, progress=quiet)


def test_a_dataset_is_measured_as_it_was_imported(settings, tmp_path):
    frame = payments(3_000)
    bring(settings, request_for(written(frame, tmp_path / "own.parquet")))
    found = imported(settings, "cards")

    assert sorted(found.TRANSACTION_ID) == sorted(frame.TRANSACTION_ID.astype(str))
    assert found.TX_DATETIME.tolist() == frame.TX_DATETIME.tolist()
    assert found.TX_FRAUD.sum() == frame.TX_FRAUD.sum()


def test_ratings_are_no_payments(settings, tmp_path):
    bring(settings, request_for_ratings(written(ratings(50), tmp_path / "own.parquet")))

    with pytest.raises(StateError, match="has no payments"):
        imported(settings, "movies")


def test_a_size_has_as_many_payments_for_each_customer_and_terminal():
    frame = generated(40_000)
    small = share_of(frame, 1 / 4)

    for key in ("CUSTOMER_ID", "TERMINAL_ID"):
        whole, part = (len(rows) / rows[key].nunique() for rows in (frame, small))
        assert part == pytest.approx(whole, rel=0.1)
