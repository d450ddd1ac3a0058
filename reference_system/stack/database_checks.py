"""Are the databases of a state directory sound? Asked before anything is started.

In: the map of a state directory. Out: an error that names the damaged file and how to mend it, or nothing.
Invariant: nothing is written; a database that a service has open may be looked at.
"""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from reference_system.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from reference_system.paths import StatePaths

_BUSY_SECONDS = 2.0


def require_sound(paths: StatePaths) -> None:
    """Raise for the first damaged database.

    Raises:
        StateError: naming the file; where others can fill it again, the next command removes it, else everything.
    """
    filled_again = [*sorted(paths.stream_tasks.glob("*.sqlite")), paths.online_store, paths.prefect / "prefect.db"]
    for path in (*filled_again, paths.mlflow / "mlflow.db"):
        problem = _problem(path) if path.exists() else None
        if problem is not None:
            # What is removed comes back: the stream's from the lake and the topics, Prefect's without its old runs.
            mend = f"make down && rm {shlex.quote(str(path))}* && make up" if path in filled_again else "make clean"
            raise StateError(f"{path} is damaged ({problem})", next_command=mend)


def has_tables(path: Path) -> bool:
    """Whether there is a database with anything in it: opening one that is gone leaves an empty one behind."""
    if not path.exists():
        return False
    with closing(_open(path)) as database:
        return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _problem(path: Path) -> str | None:
    try:
        with closing(_open(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        locked = error.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        return None if locked else str(error)
    return None if found == "ok" else str(found).splitlines()[-1]


def _open(path: Path) -> sqlite3.Connection:
    # `mode=rw` does not create a database; a read-only connection could not read what only the write-ahead log has.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
