"""One table of the online store: which row wins, who waits for whom, and what a crash or a fork leaves."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_system.features.feast.packed_table import BATCH, PUSHED, Connections, PackedTable, joined_read

KEY = b"key"


@pytest.fixture
def connections(tmp_path):
    found = Connections(tmp_path / "folder" / "online.sqlite")
    yield found
    found.close()


@pytest.fixture
def table(connections):
    found = PackedTable(connections, "states", "value")
    found.create()
    return found


def write(table, *rows):
    table.write([(key, time, sequence, created, value) for key, time, sequence, created, value in rows])


def wins_over(row, other) -> bool:
    """The order of the module's docstring, said once more: of a later row and the one that is stored."""
    (_, time, sequence, created, _), (_, other_time, other_sequence, other_created, _) = row, other
    if (time, sequence) != (other_time, other_sequence):
        return (time, sequence) > (other_time, other_sequence)
    return sequence < 0 and created >= other_created


rows = st.lists(
    st.tuples(st.just(KEY), st.integers(-2, 2), st.sampled_from([BATCH, PUSHED, 0, 1, 2]), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)
of_one_table = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@of_one_table
@given(rows=rows)
def test_the_row_that_stays_is_the_one_that_the_order_names(table, rows):
    table.drop()
    table.create()
    numbered = [(*row, b"%d" % place) for place, row in enumerate(rows)]
    expected = numbered[0]
    for row in numbered:
        write(table, row)
        expected = row if row is not expected and wins_over(row, expected) else expected
    assert table.read_one(KEY) == (expected[4], expected[1])


@of_one_table
@given(rows=rows, data=st.data())
def test_rows_of_the_stream_may_come_in_any_order_and_again_and_again(table, rows, data):
    of_stream = {(time, abs(sequence)) for _, time, sequence, _ in rows}
    numbered = [(KEY, time, sequence, 0, b"%d %d" % (time, sequence)) for time, sequence in of_stream]
    table.drop()
    table.create()
    write(table, *data.draw(st.permutations(numbered + numbered)))
    time, sequence = max(of_stream)
    assert table.read_one(KEY) == (b"%d %d" % (time, sequence), time)


def test_a_key_that_nobody_wrote_is_not_found(table):
    assert table.read_one(b"nobody") == (None, None)
    assert table.read([b"nobody", b"nothing"]) == [(None, None)] * 2


def test_more_keys_than_one_statement_takes_are_read_in_their_order(table):
    keys = [b"%d" % number for number in range(2_500)]
    write(table, *((key, place, 0, 0, key) for place, key in enumerate(keys)))
    assert table.read(keys[::-1]) == [(key, place) for place, key in enumerate(keys)][::-1]


def test_a_joined_read_gives_one_key_of_each_table_and_nothing_for_what_is_missing(connections, table):
    other = PackedTable(connections, "others", "features")
    other.create()
    write(table, (b"a", 1, 0, 0, b"one"))
    write(other, (b"b", 2, 0, 0, b"two"))
    read = joined_read([table, other])
    assert read([b"a", b"b"]) == [(b"one", 1), (b"two", 2)]
    assert read([b"b", b"b"]) == [(None, None), (b"two", 2)]
    assert read([b"b", b"a"]) == [(None, None), (None, None)]


def test_a_joined_read_is_of_one_moment(connections, table):
    other = PackedTable(connections, "others", "value")
    other.create()
    read, stop = joined_read([table, other]), threading.Event()

    def write_both() -> None:
        # In one transaction, so that no moment has them apart.
        with closing(sqlite3.connect(connections._path, isolation_level=None, timeout=10)) as writer:
            for number in range(300):
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("INSERT OR REPLACE INTO states VALUES (?, ?, 0, 0, x'00')", (KEY, number))
                writer.execute("INSERT OR REPLACE INTO others VALUES (?, ?, 0, 0, x'00')", (KEY, number))
                writer.execute("COMMIT")
        stop.set()

    thread = threading.Thread(target=write_both)
    thread.start()
    seen = []
    while not stop.is_set():
        (_, one), (_, two) = read([KEY, KEY])
        assert one == two
        seen.append(-1 if one is None else one)
    thread.join()
    assert all(one <= two for one, two in pairwise(seen))


def test_a_write_that_fails_changes_nothing_and_the_next_one_succeeds(table):
    write(table, (KEY, 1, 0, 0, b"before"))
    with pytest.raises(OverflowError):
        write(table, (KEY, 2, 0, 0, b"half"), (KEY, 2**70, 0, 0, b"beyond any integer that SQLite holds"))
    assert table.read_one(KEY) == (b"before", 1)
    write(table, (KEY, 2, 0, 0, b"after"))
    assert table.read_one(KEY) == (b"after", 2)


def test_a_reader_waits_neither_for_a_writer_nor_for_its_commit(connections, table):
    write(table, (KEY, 1, 0, 0, b"before"))
    with closing(sqlite3.connect(connections._path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE states SET value = x'00'")
        assert table.read_one(KEY) == (b"before", 1)
        writer.execute("ROLLBACK")


@pytest.mark.usefixtures("table")
def test_a_reader_cannot_write(connections):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connections.reader().execute("DELETE FROM states")


def test_a_reader_does_not_make_a_database(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        Connections(tmp_path / "online.sqlite").reader()
    assert not (tmp_path / "online.sqlite").exists()


def test_the_log_is_bounded_although_readers_read_all_the_time(connections, table):
    state, stop = b"x" * 1_500, threading.Event()

    def read() -> None:
        while not stop.is_set():
            table.read_one(KEY)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    largest = 0
    for number in range(60):
        write(table, *((b"%d" % place, number, 0, 0, state) for place in range(500)))
        largest = max(largest, connections._path.with_name("online.sqlite-wal").stat().st_size)
    stop.set()
    for reader in readers:
        reader.join()
    # 45 MB were written. A checkpoint comes every 16 MB; the log begins anew when no reader reads its old part.
    assert largest < 36_000_000


def test_each_thread_reads_with_a_connection_of_its_own(connections, table):
    write(table, (KEY, 1, 0, 0, b"value"))
    found = []
    thread = threading.Thread(target=lambda: found.extend([connections.reader().connection, table.read_one(KEY)]))
    thread.start()
    thread.join()
    assert found[1] == (b"value", 1)
    assert found[0] is not connections.reader().connection


# A program of its own: a fork of a test run, which has threads, is one that may hang.
FORK = """
import os, sys
from pathlib import Path
from reference_system.features.feast.packed_table import Connections, PackedTable

connections = Connections(Path(sys.argv[1]))
table = PackedTable(connections, "states", "value")
table.create()
table.write([(b"key", 1, 0, 0, b"parent")])
before = connections.reader()
child = os.fork()
if not child:
    right = connections.reader() is not before and table.read_one(b"key") == (b"parent", 1)
    table.write([(b"key", 2, 0, 0, b"child")])
    os._exit(0 if right else 2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert table.read_one(b"key") == (b"child", 2)
table.write([(b"key", 3, 0, 0, b"parent")])
assert table.read_one(b"key") == (b"parent", 3)
connections.close()
"""


def test_a_forked_child_reads_and_writes_with_connections_of_its_own(tmp_path):
    command = [sys.executable, "-W", "error", "-c", FORK, tmp_path / "online.sqlite"]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_connections_that_were_closed_open_again(connections, table):
    write(table, (KEY, 1, 0, 0, b"value"))
    connections.close()
    assert table.read_one(KEY) == (b"value", 1)


def test_a_table_of_another_form_is_made_anew(connections, table):
    write(table, (KEY, 1, 0, 0, b"value"))
    table.create()
    assert table.read_one(KEY) == (b"value", 1)
    other_form = PackedTable(connections, "states", "features")
    other_form.create()
    assert other_form.read_one(KEY) == (None, None)
