"""Cells become ids, numbers, flags and moments, or are marked; nothing is mended and nothing guessed in silence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from reference_system.errors import ImportRefused
from reference_system.imports.moments import MomentColumn
from reference_system.imports.typed_columns import FlagColumn, IdColumn, NumberColumn
from reference_system.windows import micros

LATEST = micros(datetime(2025, 3, 3, 12, 0, tzinfo=UTC))
MOMENT = datetime(2018, 4, 1, 0, 0, 31, tzinfo=UTC)


def converted(make, cells, **options):
    """The values, the reasons with the positions of their cells, and the column."""
    is_csv = isinstance(cells, list)
    array = pa.array(cells, pa.string()) if is_csv else cells
    column = make("it", None if is_csv else array.type, **options)
    values, faults = column.convert(array)
    found = {reason: np.flatnonzero(mask).tolist() for reason, mask in faults.items() if mask.any()}
    bad = {position for positions in found.values() for position in positions}
    good = [value.as_py() for position, value in enumerate(values) if position not in bad]
    return good, found, column


def moments(cells):
    return converted(MomentColumn, cells, latest=LATEST)


# Ids


def test_whole_numbers_become_decimal_text_and_their_type_is_kept():
    good, found, column = converted(IdColumn, pa.array([5, None, 10_000], pa.int32()))

    assert (good, found, column.type_name) == (["5", "10000"], {"is missing": [1]}, "int32")


def test_text_ids_stay_as_they_are_in_every_encoding_of_text():
    for cells in (
        pa.array(["c1", "c2"]),
        pa.array(["c1", "c2"], pa.large_string()),
        pa.array(["c1", "c2"]).dictionary_encode(),
    ):
        good, found, column = converted(IdColumn, cells)
        assert (good, found, column.type_name) == (["c1", "c2"], {}, "string")


@pytest.mark.parametrize(
    ("cells", "kind"), [(["7", "12"], "int64"), (["7", "012"], "string"), (["7", "c1"], "string")]
)
def test_ids_of_a_csv_are_numbers_only_if_all_of_them_are(cells, kind):
    good, _, column = converted(IdColumn, cells)

    assert (good, column.type_name) == (cells, kind)


@pytest.mark.parametrize("cells", [pa.array([1.0, 2.0]), pa.array([True]), pa.array([[1]])])
def test_a_type_that_is_no_id_is_refused(cells):
    with pytest.raises(ImportRefused, match="an id is a whole number or text"):
        converted(IdColumn, cells)


# Numbers and flags


def test_every_number_type_becomes_a_float():
    for cells in (pa.array([1, 2]), pa.array([1.0, 2.0], pa.float32()), pa.array([Decimal("1.0"), Decimal("2.0")])):
        assert converted(NumberColumn, cells)[:2] == ([1.0, 2.0], {})


def test_nan_and_null_are_missing():
    assert converted(NumberColumn, pa.array([1.0, float("nan"), None]))[:2] == ([1.0], {"is missing": [1, 2]})


def test_text_of_a_csv_is_a_number_or_marked():
    good, found, _ = converted(
        NumberColumn, ["12.5", "-3", ".5", "1e3", "abc", "1,5", " 1", "nan", "0x1", "1_0", None, "1e999"]
    )

    assert good == [12.5, -3.0, 0.5, 1000.0]
    assert found == {"is no number": [4, 5, 6, 7, 8, 9], "is missing": [10], "is no finite number": [11]}


@pytest.mark.parametrize("cells", [pa.array(["12.5"]), pa.array([True]), pa.array([MOMENT])])
def test_text_or_truth_in_a_typed_column_is_no_number(cells):
    with pytest.raises(ImportRefused, match="a number is expected"):
        converted(NumberColumn, cells)


@pytest.mark.parametrize(
    "cells", [pa.array([0, 1]), pa.array([False, True]), pa.array([0.0, 1.0]), ["0", "1"], ["false", "True"]]
)
def test_flags_are_zero_and_one_however_they_are_written(cells):
    assert converted(FlagColumn, cells)[:2] == ([False, True], {})


def test_what_is_neither_zero_nor_one_is_marked():
    assert converted(FlagColumn, pa.array([2, 1, None, -1]))[1] == {"is missing": [2], "is neither 0 nor 1": [0, 3]}
    assert converted(FlagColumn, ["yes", "1", None])[1] == {"is missing": [2], "is neither 0 nor 1": [0]}


# Moments


def test_naive_timestamps_are_utc_and_said_to_be():
    good, found, column = moments(pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ns")))

    assert (good, found) == ([MOMENT], {})
    assert column.notes() == ["it: 1 times without a zone were read as UTC"]


def test_aware_timestamps_keep_their_moment():
    there = MOMENT.astimezone(timezone(timedelta(hours=2)))
    good, found, column = moments(pa.array([there], pa.timestamp("us", tz="+02:00")))

    assert (good, found, column.notes()) == ([MOMENT], {}, [])


def test_iso_text_with_and_without_a_zone():
    text = ["2018-04-01 00:00:31", "2018-04-01T02:00:31+02:00", "2018-04-01T00:00:31Z", "2018-04-01"]
    good, found, column = moments(text)

    assert good == [MOMENT] * 3 + [MOMENT.replace(second=0)]
    assert found == {}
    assert column.notes() == [
        "it: 2 times without a zone were read as UTC",
        "it: 2 times had a zone and were turned into UTC",
    ]


def test_text_that_is_no_iso_time_is_marked():
    text = ["2018-04-01", "01/04/2018", "2018-02-30", "noon", None, "0001-01-01T00:00:00+23:00"]

    assert moments(text)[1] == {"is no ISO 8601 time": [1, 2, 3], "is missing": [4], "lies before 1990-01-01": [5]}


@pytest.mark.parametrize(
    ("per_second", "name"), [(1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")]
)
def test_the_unit_of_whole_numbers_follows_from_their_size(per_second, name):
    number = int(MOMENT.timestamp()) * per_second
    for cells in (pa.array([number, number]), [str(number), str(number)]):
        good, found, column = moments(cells)
        assert (good, found) == ([MOMENT, MOMENT], {})
        assert column.notes() == [f"it: whole numbers were read as {name} since 1970 (UTC)"]


def test_a_wrong_number_does_not_change_the_unit_of_the_others():
    number = int(MOMENT.timestamp())
    good, found, _ = moments(pa.array([number, number * 10**6, number, 2**62, 31]))

    assert good == [MOMENT, MOMENT]
    assert found == {"lies in the future": [1, 3], "lies before 1990-01-01": [4]}


def test_times_before_the_first_and_after_now_are_marked():
    far = [datetime(1970, 1, 1), datetime(2999, 1, 1), datetime(2024, 1, 1)]  # noqa: DTZ001 - naive on purpose

    assert moments(pa.array(far, pa.timestamp("us")))[1] == {"lies before 1990-01-01": [0], "lies in the future": [1]}


def test_dates_are_midnight_and_said_to_be():
    good, _, column = moments(pa.array([date(2018, 4, 1)]))

    assert good == [datetime(2018, 4, 1, tzinfo=UTC)]
    assert column.notes() == ["it: 1 dates without a time were read as midnight UTC"]


def test_what_is_finer_than_a_microsecond_is_cut_and_said_to_be():
    good, _, column = moments(pa.array([int(MOMENT.timestamp()) * 10**9 + 1_999], pa.timestamp("ns", tz="UTC")))

    assert good == [MOMENT + timedelta(microseconds=1)]
    assert column.notes() == ["it: 1 times were cut to the microsecond"]


@pytest.mark.parametrize("cells", [pa.array([1.5e9]), pa.array([True])])
def test_a_type_that_is_no_time_is_refused(cells):
    with pytest.raises(ImportRefused, match="a time is a timestamp, ISO 8601 text or whole seconds"):
        moments(cells)


@pytest.mark.parametrize("cells", [pa.array([], pa.timestamp("us")), pa.array([], pa.int64()), []])
def test_a_chunk_without_rows_is_no_error(cells):
    assert moments(cells)[:2] == ([], {})
