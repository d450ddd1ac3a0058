"""Cells become ids, numbers, flags and moments, or are marked; nothing is mended and nothing guessed in silence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from reference_system.dataset_import.columns.elapsed_times import ElapsedColumn
from reference_system.dataset_import.columns.ids import TypedIds
from reference_system.dataset_import.columns.numbers import (
    REFUND,
    AmountColumn,
    RatingColumn,
    TypedFlags,
    TypedNumbers,
)
from reference_system.dataset_import.columns.timestamps import MomentColumn
from reference_system.errors import ImportRefused
from reference_system.event_time import micros

LATEST = micros(datetime(2025, 3, 3, 12, 0, tzinfo=UTC))
MOMENT = datetime(2018, 4, 1, 0, 0, 31, tzinfo=UTC)


def converted(make, cells, **options):
    """The values, the reasons with the positions of their cells, and the column."""
    is_csv = isinstance(cells, list)
    array = pa.array(cells, pa.string()) if is_csv else cells
    column = make("it", None if is_csv else array.type, **options)
    if column.needs_look:
        column.look(array)
    values, faults = column.convert(array)
    found = {reason: np.flatnonzero(mask).tolist() for reason, mask in faults.items() if mask.any()}
    bad = {position for positions in found.values() for position in positions}
    good = [value.as_py() for position, value in enumerate(values) if position not in bad]
    return good, found, column


def moments(cells):
    return converted(MomentColumn, cells, latest=LATEST)


# Ids


def test_whole_numbers_become_decimal_text_and_their_type_is_kept():
    good, found, column = converted(TypedIds, pa.array([5, None, 10_000], pa.int32()))

    assert (good, found, column.type_name) == (["5", "10000"], {"is missing": [1]}, "int32")


def test_text_ids_stay_as_they_are_in_every_encoding_of_text():
    for cells in (
        pa.array(["c1", "c2"]),
        pa.array(["c1", "c2"], pa.large_string()),
        pa.array(["c1", "c2"]).dictionary_encode(),
    ):
        good, found, column = converted(TypedIds, cells)
        assert (good, found, column.type_name) == (["c1", "c2"], {}, "string")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["7", "12"], "int64"),
        (["7", "012"], "string"),
        (["7", "c1"], "string"),
        (["7", "-0"], "string"),
        (["-1541654101129638711", "8581389452482819506"], "int64"),
        (["-9223372036854775808", "9223372036854775807"], "int64"),
        (["1", "18446744073709551615"], "uint64"),
        (["-1", "18446744073709551615"], "string"),
        (["1", "18446744073709551616"], "string"),
    ],
)
def test_ids_of_a_csv_are_numbers_only_if_all_of_them_are(cells, kind):
    good, _, column = converted(TypedIds, cells)

    assert (good, column.type_name) == (cells, kind)


@pytest.mark.parametrize(
    "cells",
    [
        ["12", "12.0", "12.00", "-7.0"],
        pa.array([12, 12, 12, -7], pa.int8()),
        pa.array([12.0, 12.0, 12.0, -7.0]),
        pa.array([12.0, 12.0, 12.0, -7.0], pa.float32()),
        pa.array([Decimal(12), Decimal(12), Decimal(12), Decimal(-7)], pa.decimal128(38, 0)),
        pa.array([Decimal("12.00"), Decimal(12), Decimal(12), Decimal(-7)], pa.decimal128(10, 2)),
    ],
)
def test_a_whole_number_is_one_id_whatever_type_it_has(cells):
    good, found, _ = converted(TypedIds, cells)

    assert (good, found) == (["12", "12", "12", "-7"], {})


def test_decimals_keep_all_their_digits():
    number = 10**37 + 1
    good, _, column = converted(TypedIds, pa.array([Decimal(number)], pa.decimal128(38, 0)))

    assert (good, column.type_name) == ([str(number)], "decimal128(38, 0)")


def test_ids_with_a_fraction_of_zero_are_said_to_be_read_as_whole_numbers():
    _, _, column = converted(TypedIds, ["12", "12.0"])

    assert (column.type_name, column.notes()) == ("double", ["it: 1 ids like 12.0 were read as 12"])


@pytest.mark.parametrize("cells", [["12", "12.0", "c1"], pa.array(["12", "12.0"])])
def test_in_a_column_of_text_they_stay_and_that_is_said(cells):
    good, _, column = converted(TypedIds, cells)

    assert good[:2] == ["12", "12.0"]
    assert "12 would be another id" in column.notes()[0]


def test_a_later_text_makes_the_numbers_before_it_text():
    column = TypedIds("it", None)
    chunks = [pa.array(["12.0"]), pa.array(["c1"])]
    for chunk in chunks:
        column.look(chunk)

    assert [column.convert(chunk)[0].to_pylist() for chunk in chunks] == [["12.0"], ["c1"]]


SPELLINGS = ["", " ", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "\\N", None]


@pytest.mark.parametrize("kind", [None, pa.string(), pa.binary()])
def test_a_missing_id_is_missing_however_it_is_spelled(kind):
    cells = ["1", *SPELLINGS] if kind is None else pa.array(["1", *SPELLINGS]).cast(kind)
    good, found, column = converted(TypedIds, cells)

    assert (good, found) == (["1"], {"is missing": list(range(1, len(SPELLINGS) + 1))})
    assert column.notes() == []


def test_floats_that_are_no_ids_are_marked():
    good, found, _ = converted(TypedIds, pa.array([1.5, float("nan"), None, 2.0**53 + 2, float("inf"), 3.0]))

    beyond = "lies beyond 9,007,199,254,740,992, where a double does not tell whole numbers apart"
    assert (good, found) == (["3"], {"is no whole number": [0], "is missing": [1, 2], beyond: [3, 4]})


def test_decimals_that_are_no_ids_are_marked():
    good, found, _ = converted(TypedIds, pa.array([Decimal("1.50"), None, Decimal("2.00")]))

    assert (good, found) == (["2"], {"is no whole number": [0], "is missing": [1]})


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.dictionary(pa.int8(), pa.binary())])
def test_text_that_is_stored_as_bytes_is_read_as_utf_8(kind):
    good, found, _ = converted(TypedIds, pa.array([b"c1", "é".encode()], pa.binary()).cast(kind))

    assert (good, found) == (["c1", "é"], {})


def test_bytes_that_are_no_text_are_marked():
    good, found, _ = converted(TypedIds, pa.array([b"c1", b"\xff", None]))

    assert (good, found) == (["c1"], {"is no UTF-8 text": [1], "is missing": [2]})


def test_spaces_around_an_id_are_left_out_and_counted():
    good, found, column = converted(TypedIds, [" c 1", "c2 ", "\u00a0c3"])

    assert (good, found) == (["c 1", "c2", "c3"], {})
    assert column.notes() == ["it: 3 ids had spaces around them, which were left out"]


@pytest.mark.parametrize("cells", [pa.array([True]), pa.array([[1]]), pa.array([MOMENT])])
def test_a_type_that_is_no_id_is_refused(cells):
    with pytest.raises(ImportRefused, match="an id is a whole number or text"):
        converted(TypedIds, cells)


# Numbers and flags


def test_every_number_type_becomes_a_float():
    for cells in (pa.array([1, 2]), pa.array([1.0, 2.0], pa.float32()), pa.array([Decimal("1.0"), Decimal("2.0")])):
        assert converted(TypedNumbers, cells)[:2] == ([1.0, 2.0], {})


def test_nan_and_null_are_missing():
    assert converted(TypedNumbers, pa.array([1.0, float("nan"), None]))[:2] == ([1.0], {"is missing": [1, 2]})


def test_text_of_a_csv_is_a_number_or_marked():
    good, found, _ = converted(
        TypedNumbers, ["12.5", "-3", ".5", "1e3", "abc", "1,5", " 1", "nan", "0x1", "1_0", None, "1e999"]
    )

    assert good == [12.5, -3.0, 0.5, 1000.0, 1.0]
    assert found == {"is no number": [4, 5, 8, 9], "is missing": [7, 10], "is no finite number": [11]}


@pytest.mark.parametrize("text", ["$12.50", "12.50 €", "-$12.50", "EUR 12.50", "£1,200.00", "12 USD"])
def test_a_currency_sign_is_called_what_it_is(text):
    assert converted(TypedNumbers, [text])[1] == {"has a currency sign: a number stands alone, 12.50 for $12.50": [0]}


@pytest.mark.parametrize("cells", [["-5", "0", "7", "nan"], pa.array([-5.0, 0.0, 7.0, None])])
def test_an_amount_below_zero_is_what_the_reader_says(cells):
    marked = converted(AmountColumn, cells, refunds=None)
    left_out = converted(AmountColumn, cells, refunds="skip")
    kept = converted(AmountColumn, cells, refunds="keep")

    assert [reason for reason, rows in marked[1].items() if rows == [0]] == [
        "lies below 0, as a refund does (--refunds skip leaves them out, --refunds keep takes them)"
    ]
    assert left_out[:2] == ([0.0, 7.0], {REFUND: [0], "is missing": [3]})
    assert kept[:2] == ([-5.0, 0.0, 7.0], {"is missing": [3]})
    assert kept[2].notes() == ["it: 1 refunds were kept, with amounts below 0"]


def test_ratings_of_another_scale_are_put_on_the_stored_one():
    good, found, column = converted(RatingColumn, ["0", "8", "10", "11", "-1"], scale=(0.0, 10.0))

    assert good == [0.0, 4.0, 5.0]
    assert found == {"lies outside of 0 to 10 (--rating-scale LOW:HIGH says another scale)": [3, 4]}
    assert column.notes() == ["it: ratings from 0 to 10 were put on the scale from 0 to 5"]


def test_ratings_of_the_stored_scale_are_not_touched():
    numbers = np.random.default_rng(1).uniform(0, 5, 100).tolist()

    assert converted(RatingColumn, pa.array(numbers), scale=(0.0, 5.0))[0] == numbers


@pytest.mark.parametrize("cells", [pa.array(["12.5"]), pa.array([True]), pa.array([MOMENT])])
def test_text_or_truth_in_a_typed_column_is_no_number(cells):
    with pytest.raises(ImportRefused, match="a number is expected"):
        converted(TypedNumbers, cells)


@pytest.mark.parametrize(
    "cells", [pa.array([0, 1]), pa.array([False, True]), pa.array([0.0, 1.0]), ["0", "1"], ["false", "True"]]
)
def test_flags_are_zero_and_one_however_they_are_written(cells):
    assert converted(TypedFlags, cells)[:2] == ([False, True], {})


def test_what_is_neither_zero_nor_one_is_marked():
    assert converted(TypedFlags, pa.array([2, 1, None, -1]))[1] == {"is missing": [2], "is neither 0 nor 1": [0, 3]}
    assert converted(TypedFlags, ["yes", "1", None])[1] == {"is missing": [2], "is neither 0 nor 1": [0]}


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


LAST = datetime(2025, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
SECONDS = int(LAST.timestamp())


@pytest.mark.parametrize(
    "cells",
    [
        ["2025-03-01T23:59:59.9999999Z"],
        ["2025-03-01T23:59:59.999999999+00:00"],
        ["2025-03-02T01:59:59.9999995+02:00"],
        [f"{SECONDS}.9999999"],
        [f"{SECONDS}999.9999"],
        [f"{SECONDS}999999.9"],
        [f"{SECONDS}999999900"],
        pa.array([SECONDS * 10**9 + 999_999_900]),
        pa.array([SECONDS * 10**9 + 999_999_900], pa.timestamp("ns", tz="UTC")),
        pa.array(["2025-03-01T23:59:59.9999999Z"]).cast(pa.binary()),
    ],
)
def test_the_last_moment_of_a_day_is_on_that_day_however_fine_it_is_written(cells):
    good, found, column = moments(cells)

    assert (good, found) == ([LAST], {})
    assert column.notes()[-1] == "it: 1 times were cut to the microsecond"


def test_whole_seconds_with_a_fraction_of_zero_are_not_cut():
    good, _, column = moments([f"{SECONDS}.0"])

    assert good == [LAST.replace(microsecond=0)]
    assert column.notes() == ["it: whole numbers were read as seconds since 1970 (UTC)"]


def test_one_cell_that_is_no_number_does_not_make_the_others_text():
    assert moments(["n/a", f"{SECONDS}", "noon", f"{SECONDS}"])[1] == {"is missing": [0], "is no ISO 8601 time": [2]}


@pytest.mark.parametrize("order", [1, -1])
def test_the_unit_is_that_of_most_numbers_wherever_they_stand(order):
    column = MomentColumn("it", None, latest=LATEST)
    chunks = [pa.array([f"{SECONDS}000"] * 2), pa.array([f"{SECONDS}"] * 3)][::order]
    for chunk in chunks:
        column.look(chunk)
    faults = [column.convert(chunk)[1] for chunk in chunks][::order]

    assert faults[0]["lies in the future"].all()
    assert not any(mask.any() for mask in faults[1].values())


def test_numbers_that_count_from_elsewhere_are_answered_with_the_options():
    _, found, _ = moments(["1", "2", "744"])

    assert list(found) == [
        "counts from another beginning than 1970 (--time-unit hours --time-origin 2024-01-01 would say which)"
    ]


@pytest.mark.parametrize(
    "cells", [["0", "1.5", "24"], pa.array([0.0, 1.5, 24.0]), pa.array([Decimal("0.0"), Decimal("1.5"), Decimal(24)])]
)
def test_units_since_an_origin_become_moments(cells):
    good, found, column = converted(ElapsedColumn, cells, unit=timedelta(hours=1), origin=MOMENT, latest=LATEST)

    assert (good, found) == ([MOMENT, MOMENT + timedelta(hours=1.5), MOMENT + timedelta(days=1)], {})
    assert column.notes() == ["it: numbers were read as steps of 1:00:00 since 2018-04-01 00:00:31 UTC"]


def test_units_that_are_no_numbers_or_lie_too_far_are_marked():
    cells = ["abc", None, "-1e6", "1e6", "1e300"]
    _, found, _ = converted(ElapsedColumn, cells, unit=timedelta(hours=1), origin=MOMENT, latest=LATEST)

    assert found == {
        "is missing": [1],
        "is no number": [0],
        "lies before 1990-01-01": [2],
        "lies in the future": [3, 4],
    }


@pytest.mark.parametrize("cells", [pa.array([1.5e9]), pa.array([True])])
def test_a_type_that_is_no_time_is_refused(cells):
    with pytest.raises(ImportRefused, match="a time is a timestamp, ISO 8601 text or whole seconds"):
        moments(cells)


@pytest.mark.parametrize("cells", [pa.array([], pa.timestamp("us")), pa.array([], pa.int64()), []])
def test_a_chunk_without_rows_is_no_error(cells):
    assert moments(cells)[:2] == ([], {})
