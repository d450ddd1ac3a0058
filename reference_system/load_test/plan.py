"""The plan of one load test: which requests are sent, and when each of them is due.

In: the rate, the length, the seed, a profile. Out: arrivals, the same for the same plan.
Invariant: due times never depend on the service (open loop), and load goes to this machine only.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import numpy as np

from reference_system.errors import SetupError
from reference_system.paths import PROJECT_ROOT

PATHS = {"fraud": "/v1/fraud/score", "recommendation": "/v1/recommendations"}
PROFILES = PROJECT_ROOT / "load_tests" / "profiles.toml"
# Monitoring excludes these requests: they are not payments and never get a label.
TRANSACTION_PREFIX = "load-"
_SMALLEST_AMOUNT, _LARGEST_AMOUNT = 0.01, 25_000.0


class RequestShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The properties of the requests; `skew` is the exponent of the popularity law."""

    skew: float
    median_amount: float
    amount_spread: float
    page: int


class RequestProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of each endpoint in the arrivals."""

    shares: dict[str, float]


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the generator needs, passed as JSON. Times are in seconds."""

    url: str
    run: str
    rate: float
    seconds: float
    warm_up_seconds: float
    seed: int
    shares: dict[str, float]
    shape: RequestShape
    customers: int
    terminals: int
    viewers: int
    # A request without an answer by then has failed.
    timeout_seconds: float = 10.0
    # Large enough that only a stopped service reaches it; each request holds one connection.
    max_in_flight: int = 2_000

    @property
    def whole_seconds(self) -> float:
        """Warm-up and measurement together."""
        return self.warm_up_seconds + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """One request: `due` in seconds after the start, independent of the service."""

    due: float
    endpoint: str
    body: bytes


class _Payment(msgspec.Struct, frozen=True, kw_only=True):
    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: float


class _Visit(msgspec.Struct, frozen=True, kw_only=True):
    viewer_id: str
    k: int


def read_profile(name: str) -> tuple[RequestProfile, RequestShape]:
    """The profile with that name and the shape of every request."""
    tables = tomllib.loads(PROFILES.read_text(encoding="utf-8"))
    shape = msgspec.convert(tables.pop("requests"), RequestShape)
    profiles = msgspec.convert(tables, dict[str, RequestProfile])
    return profiles[name], shape


def require_loopback(url: str) -> None:
    """Raise unless the address can only be this machine.

    Raises:
        SetupError: naming the host.
    """
    host = urlsplit(url).hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise SetupError(
            f"load goes to this machine only, and {host or url!r} is not a loopback address",
            next_command="workbook load",
        )


def arrivals(plan: LoadPlan) -> list[PlannedRequest]:
    """A Poisson process at the plan's rate: every arrival of the run, in the order of due times.

    Given their number, the times of a Poisson process are sorted uniform draws.
    """
    times, picks, people = (np.random.default_rng([plan.seed, stream]) for stream in range(3))
    count = int(times.poisson(plan.rate * plan.whole_seconds))
    due = np.sort(times.random(count) * plan.whole_seconds)
    names = sorted(plan.shares)
    weights = np.array([plan.shares[name] for name in names])
    endpoints = picks.choice(len(names), size=count, p=weights / weights.sum())
    bodies = {name: _BODIES[name](plan, people, count) for name in names}
    return [
        PlannedRequest(due=moment, endpoint=names[index], body=bodies[names[index]][number])
        for number, (moment, index) in enumerate(zip(due.tolist(), endpoints.tolist(), strict=True))
    ]


def _payments(plan: LoadPlan, rng: np.random.Generator, count: int) -> list[bytes]:
    shape = plan.shape
    customers = _popular(rng, "c", plan.customers, shape.skew, count)
    terminals = _popular(rng, "t", plan.terminals, shape.skew, count)
    amounts = shape.median_amount * rng.lognormal(0.0, shape.amount_spread, count)
    cents = np.round(np.clip(amounts, _SMALLEST_AMOUNT, _LARGEST_AMOUNT), 2)
    encode = msgspec.json.Encoder().encode
    return [
        encode(
            _Payment(
                transaction_id=f"{TRANSACTION_PREFIX}{plan.run}-{number:07d}",
                customer_id=customer,
                terminal_id=terminal,
                amount=amount,
            )
        )
        for number, (customer, terminal, amount) in enumerate(zip(customers, terminals, cents.tolist(), strict=True))
    ]


def _visits(plan: LoadPlan, rng: np.random.Generator, count: int) -> list[bytes]:
    viewers = _popular(rng, "v", plan.viewers, plan.shape.skew, count)
    encode = msgspec.json.Encoder().encode
    return [encode(_Visit(viewer_id=viewer, k=plan.shape.page)) for viewer in viewers]


_BODIES = {"fraud": _payments, "recommendation": _visits}


def _popular(rng: np.random.Generator, letter: str, size: int, skew: float, count: int) -> list[str]:
    """`count` of the world's ids from `c000001` (or `t`, `v`) on, the n-th with weight n^-skew."""
    ladder = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -skew)
    indices = np.searchsorted(ladder, rng.random(count) * ladder[-1], side="right")
    return [f"{letter}{index + 1:06d}" for index in indices.tolist()]
