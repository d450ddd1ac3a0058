"""The plan of a load test decides every request and every due time before the first one is sent."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from reference_system.errors import SetupError
from reference_system.load_test.plan import (
    PATHS,
    TRANSACTION_PREFIX,
    LoadPlan,
    arrivals,
    read_profile,
    require_loopback,
)
from reference_system.serving.api import FraudScoreRequest, RecommendationRequest
from reference_system.world.records import numbered_ids

_, SHAPE = read_profile("both")


def plan(**changes: object) -> LoadPlan:
    values: dict[str, object] = {
        "url": "http://127.0.0.1:3000",
        "run": "20250303T120000Z",
        "rate": 200.0,
        "seconds": 27.0,
        "warm_up_seconds": 3.0,
        "seed": 1,
        "shares": {"fraud": 0.6, "recommendation": 0.4},
        "shape": SHAPE,
        "customers": 100,
        "terminals": 200,
        "viewers": 50,
    }
    return LoadPlan(**{**values, **changes})


def test_the_same_plan_gives_the_same_arrivals():
    assert arrivals(plan()) == arrivals(plan())


def test_another_seed_gives_other_arrivals():
    assert [each.due for each in arrivals(plan())] != [each.due for each in arrivals(plan(seed=2))]


def test_the_gaps_between_arrivals_are_those_of_a_poisson_process():
    due = np.array([each.due for each in arrivals(plan(seconds=297.0))])
    gaps = np.diff(due)
    # An exponential distribution: its deviation is its mean, and a share of 1/e of the gaps exceeds the mean.
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_arrivals_cover_the_warm_up_and_the_measurement():
    due = [each.due for each in arrivals(plan())]
    assert 0 <= due[0] < 1
    assert 29 < due[-1] < 30


def test_endpoints_are_asked_for_in_their_shares():
    names = [each.endpoint for each in arrivals(plan(seconds=97.0))]
    assert names.count("fraud") / len(names) == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("endpoint", sorted(PATHS))
def test_a_profile_of_one_endpoint_asks_for_nothing_else(endpoint):
    profile, _ = read_profile(endpoint)
    assert {each.endpoint for each in arrivals(plan(shares=profile.shares))} == {endpoint}


def test_the_service_accepts_every_body():
    decoders = {
        "fraud": msgspec.json.Decoder(FraudScoreRequest),
        "recommendation": msgspec.json.Decoder(RecommendationRequest),
    }
    for each in arrivals(plan()):
        assert decoders[each.endpoint].decode(each.body).event_timestamp is None


def test_payments_carry_the_prefix_and_a_number_of_their_own():
    bodies = [each.body for each in arrivals(plan()) if each.endpoint == "fraud"]
    ids = [msgspec.json.decode(body, type=FraudScoreRequest).transaction_id for body in bodies]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith(f"{TRANSACTION_PREFIX}20250303T120000Z-") for name in ids)


def test_people_and_terminals_are_those_of_the_world_and_the_first_are_the_busiest():
    bodies = [each.body for each in arrivals(plan()) if each.endpoint == "fraud"]
    payments = [msgspec.json.decode(body, type=FraudScoreRequest) for body in bodies]
    customers = [payment.customer_id for payment in payments]
    assert set(customers) <= set(numbered_ids("c", np.arange(100)).tolist())
    assert {payment.terminal_id for payment in payments} <= set(numbered_ids("t", np.arange(200)).tolist())
    assert max(set(customers), key=customers.count) == "c000001"


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000", "http://localhost:1", "http://[::1]:80", "http://127.8.0.1"])
def test_load_may_go_to_this_machine(url):
    require_loopback(url)


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://10.0.0.1:3000", "http://127.0.0.1.example.com", "127.0.0.1:3000", ""]
)
def test_load_to_any_other_host_is_refused(url):
    with pytest.raises(SetupError, match="this machine only"):
        require_loopback(url)
