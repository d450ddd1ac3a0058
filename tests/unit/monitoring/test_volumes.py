from __future__ import annotations

import pytest
from small_lake import at, chargeback, payment, put, reversal

from reference_system.monitoring.duckdb_volumes import volumes
from reference_system.use_cases import topic_named

DAY = 24


def counted(lake, topic):
    (found,) = volumes(lake, [topic_named(topic)], as_of=at(60 * DAY), days=3)
    return found.days, found.newest


@pytest.mark.parametrize("topic", ["chargebacks", "chargeback-reversals"])
def test_a_label_counts_on_the_day_on_which_it_became_known(tmp_path, topic):
    make = chargeback if topic == "chargebacks" else reversal
    put(tmp_path, topic, make(1, 55 * DAY, 57.5 * DAY), make(2, 56 * DAY, 59.5 * DAY), make(3, 58 * DAY, 59.6 * DAY))
    assert counted(tmp_path, topic) == ((1, 0, 2), at(59.6 * DAY))


def test_a_reversal_counts_however_old_its_payment_is(tmp_path):
    put(tmp_path, "transactions", payment(1, 2 * DAY))
    put(tmp_path, "chargeback-reversals", reversal(1, 2 * DAY, 58.5 * DAY))
    assert counted(tmp_path, "chargeback-reversals") == ((0, 1, 0), at(58.5 * DAY))
    assert counted(tmp_path, "transactions") == ((0, 0, 0), None)
