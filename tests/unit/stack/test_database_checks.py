"""Databases of a state directory: a damaged one is named with what mends it, before anything starts."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.stack.database_checks import has_tables, require_sound


@pytest.fixture
def paths(tmp_path):
    return StatePaths(tmp_path / "the state")


def database(path, rows=2_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO numbers (text) VALUES (?)", [(f"row {row}",) for row in range(rows)])
    return path


def overwrite(path, start, end):
    content = bytearray(path.read_bytes())
    content[start:end] = b"\xff" * (end - start)
    path.write_bytes(content)


def test_databases_that_are_sound_missing_or_empty_are_no_error(paths):
    require_sound(paths)
    database(paths.online_store)
    (paths.mlflow / "mlflow.db").parent.mkdir(parents=True)
    (paths.mlflow / "mlflow.db").touch()
    require_sound(paths)


@pytest.mark.parametrize(("start", "end"), [(0, 100), (4_096, 12_288)], ids=["header", "pages"])
def test_a_damaged_online_store_is_named_and_removed_by_the_next_command(paths, start, end):
    overwrite(database(paths.online_store), start, end)

    with pytest.raises(StateError, match="is damaged") as caught:
        require_sound(paths)

    assert str(paths.online_store) in str(caught.value)
    assert caught.value.next_command == f"make down && rm '{paths.online_store}'* && make up"


def test_a_damaged_tracking_database_cannot_be_filled_again(paths):
    overwrite(database(paths.mlflow / "mlflow.db"), 0, 100)
    with pytest.raises(StateError, match="is damaged") as caught:
        require_sound(paths)
    assert caught.value.next_command == "make clean"


def test_a_database_that_a_service_writes_to_is_not_damaged(paths):
    path = database(paths.online_store)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("DELETE FROM numbers")
        require_sound(paths)


def test_a_database_has_tables_once_one_was_made(tmp_path):
    path = tmp_path / "new.db"
    assert not has_tables(path)
    assert not path.exists()
    sqlite3.connect(path).close()
    assert not has_tables(path)
    assert has_tables(database(path))
