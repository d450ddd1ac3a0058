"""The spool keeps whole records through crashes, within its bound."""

from __future__ import annotations

import pytest

from reference_system.serving.spool import Spool

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
