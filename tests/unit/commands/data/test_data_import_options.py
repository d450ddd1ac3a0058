"""What the options of an import may say, and what is answered to the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reference_system.commands.data.data_import import duration_of, moment_of_day, scale_of, unit_of
from reference_system.dataset_import.columns.readings import ColumnReading
from reference_system.errors import ImportRefused


@pytest.mark.parametrize(
    ("text", "hours"),
    [("hours", 1), ("Days", 24), ("weeks", 168), ("15m", 0.25), ("seconds", 1 / 3_600), (None, None)],
)
def test_times_are_counted_in_words_or_steps(text, hours):
    assert unit_of(text) == (None if hours is None else timedelta(hours=hours))


@pytest.mark.parametrize("text", ["steps", "0s", "", "hour", "-1h"])
def test_a_unit_that_is_none_is_answered_with_those_that_are(text):
    with pytest.raises(ImportRefused, match=r"is no unit: seconds, minutes, hours, days, weeks, or .* like 15m"):
        unit_of(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T02:00:00+02:00", datetime(2024, 1, 1, tzinfo=UTC)),
        (None, None),
    ],
)
def test_an_origin_is_a_day_or_a_moment(text, moment):
    assert moment_of_day(text) == moment


def test_an_origin_that_is_none_is_refused():
    with pytest.raises(ImportRefused, match="--time-origin '1/1/2024' is no day"):
        moment_of_day("1/1/2024")


def test_a_scale_is_two_numbers_the_lower_first():
    assert scale_of("-10:10.5") == (-10.0, 10.5)
    for text in ("10", "0-10", "a:b", "1:2:3"):
        with pytest.raises(ImportRefused, match="LOW:HIGH"):
            scale_of(text)
    with pytest.raises(ImportRefused, match="the lowest rating comes first"):
        ColumnReading(rating_scale=scale_of("10:0"))


def test_a_unit_without_an_origin_is_refused_with_what_is_missing():
    with pytest.raises(ImportRefused, match="--time-unit needs --time-origin"):
        ColumnReading(time_unit=timedelta(hours=1))


@pytest.mark.parametrize("text", ["week", "7", "4000d", "-1d", ""])
def test_a_duration_that_is_none_is_named_with_its_option(text):
    with pytest.raises(ImportRefused, match=r"--label-delay .* is no duration"):
        duration_of("--label-delay", text)
