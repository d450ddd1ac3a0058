"""The benchmark of the inputs measures what it says: the verb itself, at three sizes, beside equal values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from own_files import bring, payments, ratings, request_for, request_for_ratings, written

from reference_system.errors import StateError
from reference_system.proofs.benchmarks.features import (
    _agreement,
    generated_payments,
    imported,
    measure_features,
    share_of,
)
from reference_system.use_cases.fraud.features import INPUTS


def quiet(_share, _text):
    """Progress that nobody watches."""


def test_every_size_is_measured_beside_pandas_with_equal_values(settings):
    result = measure_features(settings, rows=4_000, laps=1, progress=quiet)

    assert [figure.unit for figure in result.figures] == ["s"] * 4 + ["CPU-s"] * 4 + ["MB peak"] * 4
    assert all(figure.median > 0 for figure in result.figures)
    assert "equal within 1e-6" in result.conditions["agreement"]
    assert len(result.goals) == 3
    assert not [path for path in settings.state_dir.rglob("*") if path.is_file()]


def test_unequal_values_end_the_benchmark(tmp_path):
    payments = generated_payments(200)
    values = pd.DataFrame({name: np.arange(200.0) for name in INPUTS}).assign(transaction_id=payments.TRANSACTION_ID)
    payments.to_parquet(tmp_path / "size0.parquet")
    values.to_parquet(tmp_path / "size0-ours.parquet")
    values.to_parquet(tmp_path / "size0-pandas.parquet")
    assert "equal within 1e-6" in _agreement(tmp_path, "size0")

    values.loc[7, "customer_mean_amount_7d"] += 0.01
    values.to_parquet(tmp_path / "size0-pandas.parquet")
    with pytest.raises(StateError, match=r"1 of .* rows differ from pandas"):
        _agreement(tmp_path, "size0")


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
    frame = generated_payments(40_000)
    small = share_of(frame, 1 / 4)

    for key in ("CUSTOMER_ID", "TERMINAL_ID"):
        whole, part = (len(rows) / rows[key].nunique() for rows in (frame, small))
        assert part == pytest.approx(whole, rel=0.1)
