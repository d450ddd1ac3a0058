"""Which column of a file is which field: `--columns "transaction_id=TRANSACTION_ID,amount=TX_AMOUNT"`.

In: the option's text and the file's column names. Out: field → column, for every field.
Invariant: a column is never guessed: it is named, or it has the field's own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from reference_system.errors import ImportRefused

_SHOWN = 12


def parse_columns(text: str | None, fields: Sequence[str]) -> dict[str, str]:
    """The option's text as field → column.

    Raises:
        ImportRefused: if it is no list of `field=COLUMN`, or names a field that does not exist, or one twice.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not field or not column:
            raise ImportRefused(f"--columns: {part.strip()!r} is not of the form field=COLUMN")
        if field not in fields:
            raise ImportRefused(
                f"--columns: there is no field {field!r} (left of = stands one of {', '.join(fields)})"
            )
        if field in found:
            raise ImportRefused(f"--columns names {field} twice: {found[field]!r} and {column!r}")
        found[field] = column
    return found


def resolve_columns(
    named: dict[str, str], fields: Sequence[str], columns: Sequence[str], *, file: str
) -> dict[str, str]:
    """Every field with its column: the one that was named, or the one of the same name.

    Raises:
        ImportRefused: if a column is missing, or stands in the file twice.
    """
    wanted = {field: named.get(field, field) for field in fields}
    missing = [(field, column) for field, column in wanted.items() if column not in columns]
    if missing:
        facts = "; ".join(_missing(field, column, columns, named=field in named) for field, column in missing)
        raise ImportRefused(f"{file}: {facts}; its columns are {_listed(columns)}")
    counts = Counter(columns)
    twice = sorted({column for column in wanted.values() if counts[column] > 1})
    if twice:
        raise ImportRefused(f"{file}: more than one column is called {', '.join(twice)}")
    return wanted


def _missing(field: str, column: str, columns: Sequence[str], *, named: bool) -> str:
    fact = f"there is no column {column!r} for {field}" if named else f"no column is given for {field}"
    spelled = {name.lower(): name for name in columns}
    near = get_close_matches(column.lower(), list(spelled), n=3, cutoff=0.5)
    if not near:
        return fact
    nearest = readable([spelled[name] for name in near])
    return (
        f"{fact} (nearest: {nearest})"
        if named
        else f"{fact} (perhaps --columns {field}={readable([spelled[near[0]]])})"
    )


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - _SHOWN
    return readable(columns[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def readable(columns: Sequence[str]) -> str:
    """Names as a terminal may show them: what would be no text there is written out."""
    return ", ".join(name if name.isprintable() else repr(name) for name in columns)
