"""The spool keeps whole records through crashes, within its bound."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reference_system.serving.prediction_log.spool import Spool

RECORDS = [
    (b"predictions", b"c1", b'{"a": 1}'),
    (b"shadow-predictions", b"c2", b'{"b":\t2}'),
    (b"exposures", b"c3", b"{}"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool" / "predictions.tsv"


def test_what_was_appended_is_there_after_a_restart_in_order(path):
    spool = Spool(path)
    assert not spool
    assert spool.append(RECORDS[:2]) == 2
    assert spool.append(RECORDS[2:]) == 1
    again = Spool(path)
    assert again
    assert again.records() == RECORDS


def test_a_line_that_a_crash_cut_is_dropped_and_later_ones_stay_whole(path):
    Spool(path).append(RECORDS)
    path.write_bytes(path.read_bytes()[:-3])
    spool = Spool(path)
    assert spool.records() == RECORDS[:2]
    spool.append([(b"exposures", b"c4", b"[]")])
    assert Spool(path).records() == [*RECORDS[:2], (b"exposures", b"c4", b"[]")]


def test_beyond_its_bound_it_takes_no_more(path):
    spool = Spool(path, max_bytes=62)
    assert spool.append(RECORDS) == 2
    assert spool.append(RECORDS) == 0
    assert Spool(path).records() == RECORDS[:2]


def test_it_keeps_what_is_still_not_accepted_and_is_gone_when_nothing_is(path):
    spool = Spool(path)
    spool.append(RECORDS)
    spool.keep(RECORDS[1:])
    assert Spool(path).records() == RECORDS[1:]
    spool.keep([])
    assert not spool
    assert not path.exists()
    assert spool.records() == []
    assert spool.append(RECORDS) == 3


def test_a_spool_of_a_time_with_one_topic_is_still_read(path):
    path.parent.mkdir()
    path.write_bytes(b'c1\t{"a":\t1}\nexposures\tc2\t{}\n')
    assert Spool(path).records() == [(b"predictions", b"c1", b'{"a":\t1}'), (b"exposures", b"c2", b"{}")]


# A limit on the size of files is how the kernel refuses a write in the middle, as a full disk does.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from reference_system.serving.prediction_log.spool import Spool

path, limit, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
spool = Spool(path)
try:
    if "append" in words:
        spool.append([(b"exposures", b"c9", b"x" * 200)])
    if "keep" in words:
        spool.keep(spool.records()[1:])
except OSError as error:
    print(error.strerror)
"""


def on_a_full_disk(path, limit, *words):
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, str(path), str(limit), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("what", ["append", "keep"])
def test_a_disk_that_is_full_in_the_middle_of_a_write_leaves_what_was_there(path, what):
    Spool(path).append(RECORDS)
    assert on_a_full_disk(path, path.stat().st_size + 10 if what == "append" else 20, what) == "File too large"
    assert Spool(path).records() == RECORDS
    assert path.read_bytes().endswith(b"\n")


def test_the_line_that_a_crash_cut_is_dropped_though_the_disk_is_full(path):
    Spool(path).append(RECORDS)
    with path.open("ab") as file:
        file.write(b"exposures\thalf")
    whole = path.read_bytes()
    on_a_full_disk(path, 0, "nothing")
    assert path.read_bytes() + b"exposures\thalf" == whole


def test_a_key_that_begins_like_a_record_is_read_as_the_key(path):
    records = [(b"predictions", b"{c1", b'{"a": 1}'), (b"exposures", b'{"c": 2}', b"{}")]
    Spool(path).append(records)
    assert Spool(path).records() == records
