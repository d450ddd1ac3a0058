"""Days of the past that can be scored: the ETL has finished them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reference_system.errors import StateError
from reference_system.features.feast.feature_tables import complete_until
from reference_system.paths import StatePaths

ONE_DAY = timedelta(days=1)


class EmptyDay(StateError):  # noqa: N818 - a fact about the day, and no fault of anybody
    """The lake has no event of a day."""


def finished_until(paths: StatePaths) -> datetime:
    """The midnight before which every day has its features.

    Raises:
        StateError: if the ETL never ran.
    """
    end = complete_until(paths.feature_tables)
    if end is None:
        raise StateError("there are no feature tables yet", next_command="workbook etl")
    return end.replace(hour=0, minute=0, second=0, microsecond=0)


def require_finished(paths: StatePaths, day: datetime) -> None:
    """Refuse a day that the ETL has not finished.

    Raises:
        StateError: naming the ETL.
    """
    complete = finished_until(paths)
    if day + ONE_DAY > complete:
        raise StateError(
            f"the feature tables are complete up to {complete:%Y-%m-%d}, so {day:%Y-%m-%d} cannot be scored yet",
            next_command="workbook etl",
        )


def day_named(text: str) -> datetime:
    """The midnight that begins the day of an ISO date.

    Raises:
        StateError: if the text is none.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise StateError(f"{text!r} is no day such as 2025-03-01") from error
