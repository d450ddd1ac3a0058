"""Which column of a file is which field: `--columns "transaction_id=TRANSACTION_ID,amount=TX_AMOUNT"`.

In: the option's text and the file's column names. Out: field → column, for every field.
Invariant: a column is never guessed: it is named, or it has the field's own name, but for spaces around it. An advice
that is printed works when it is pasted.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from reference_system.errors import ImportRefused

_SHOWN = 12
_CLOSE = 0.6
# A column in quotation marks, doubled inside, up to the comma or the end.
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|\Z)')
# A comma ends the name of a column only where another field follows.
_END = re.compile(r",(?=\s*[A-Za-z_]+\s*=)|,\s*\Z|\Z")
_WORD = re.compile(r"[^\W\d_]")


def parse_columns(text: str | None, fields: Sequence[str]) -> dict[str, str]:
    """The option's text as field → column.

    Raises:
        ImportRefused: if it is no list of `field=COLUMN`, or names a field that does not exist, or one twice.
    """
    found: dict[str, str] = {}
    rest = (text or "").lstrip(" ,")
    while rest:
        name, equals, after = rest.partition("=")
        quoted = _QUOTED.match(after)
        end = _END.search(after)
        column = quoted[1].replace('""', '"') if quoted else after[: end.start() if end else None].strip()
        rest = after[quoted.end() if quoted else end.end() if end else None :].lstrip(" ,")
        field = name.strip()
        if not equals or not field or not column:
            raise ImportRefused(f"--columns: {f'{name}{equals}{column}'.strip()!r} is not of the form field=COLUMN")
        if field not in fields:
            raise ImportRefused(
                f"--columns: there is no field {field!r} (left of = stands one of {', '.join(fields)})"
            )
        if field in found:
            raise ImportRefused(f"--columns names {field} twice: {found[field]!r} and {column!r}")
        found[field] = column
    return found


def resolve_columns(
    named: dict[str, str],
    fields: Sequence[str],
    columns: Sequence[str],
    *,
    file: str,
    hints: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Every field with its column: the one that was named, or the one of the same name.

    Args:
        named: field → column, as the reader says.
        fields: those that need a column.
        columns: the file's.
        file: what messages call it.
        hints: what else helps where a field has no column.

    Raises:
        ImportRefused: if a column is missing, or stands in the file twice.
    """
    wanted = {field: _spelled(named.get(field, field), columns) for field in fields}
    missing = [field for field, column in wanted.items() if column not in columns]
    if missing:
        facts = [_not_there(field, named[field], columns) for field in missing if field in named]
        unnamed = [field for field in missing if field not in named]
        if unnamed:
            facts.append(_not_given(unnamed, [name for name in columns if name not in wanted.values()], hints or {}))
        is_numbered = list(columns) == [str(number) for number in range(1, len(columns) + 1)]
        if not is_numbered and not any(map(_WORD.search, columns)):
            facts.append("the first line looks like a row (--no-header calls the columns 1, 2, 3)")
        raise ImportRefused(f"{file}: {'; '.join(facts)}; its columns are {_listed(columns)}")
    counts = Counter(columns)
    twice = sorted({column for column in wanted.values() if counts[column] > 1})
    if twice:
        raise ImportRefused(f"{file}: more than one column is called {', '.join(twice)}")
    return wanted


def _spelled(column: str, columns: Sequence[str]) -> str:
    """The column as the file spells it, with the spaces around its name."""
    alike = [name for name in columns if name.strip() == column.strip()]
    return column if column in columns or len(alike) != 1 else alike[0]


def _not_there(field: str, column: str, columns: Sequence[str]) -> str:
    near = _nearest(column, columns, most=3)
    return f"there is no column {column!r} for {field}" + (f" (nearest: {readable_specs(near)})" if near else "")


def _not_given(fields: Sequence[str], free: Sequence[str], hints: Mapping[str, str]) -> str:
    near = {field: found[0] for field in fields if (found := _nearest(field, free, most=1))}
    advice = [hints[field] for field in fields if field in hints and field not in near]
    if near and all(name.isprintable() for name in near.values()):
        pairs = ",".join(f"{field}={_written(column)}" for field, column in near.items())
        advice.insert(0, f"perhaps --columns {shlex.quote(pairs)}")
    return f"no column is given for {', '.join(fields)}" + (f" ({'; '.join(advice)})" if advice else "")


def _nearest(name: str, columns: Sequence[str], *, most: int) -> list[str]:
    spelled = {column.strip().lower(): column for column in columns}
    return [spelled[near] for near in get_close_matches(name.lower(), list(spelled), n=most, cutoff=_CLOSE)]


def _written(column: str) -> str:
    """A column as the option takes it."""
    end = _END.search(column)
    is_plain = (
        end is not None and end.start() == len(column) and column.strip() == column and not column.startswith('"')
    )
    return column if is_plain else '"' + column.replace('"', '""') + '"'


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - _SHOWN
    return readable_specs(columns[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def readable_specs(columns: Sequence[str]) -> str:
    """Names as a terminal may show them: what would be no text there is written out."""
    return ", ".join(name if name.isprintable() else repr(name) for name in columns)
