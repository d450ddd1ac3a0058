"""The traffic plan: which version, beside the champion, sees the requests of a use case, and what it does with them.

    shadow      it scores every request after the answer has been sent; nobody sees what it says
    canary      it answers the entities of a share; the others are answered by the champion
    experiment  the same with randomised halves, and every answer is logged as an exposure

One file a use case, so there is one such version at most: a release and an experiment wait for one another.

In: decisions of the release and of experiments. Out: what serving reads once a second.
Invariant: the file is replaced whole; without it the champion answers alone.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from reference_system.assignment import ChallengerMode
from reference_system.replaced_files import read_record, replace_file
from reference_system.use_case import UseCase

PLAN = "traffic.json"


class TrafficPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version beside the champion does; `name` is the release's or the experiment's."""

    use_case: UseCase
    mode: ChallengerMode
    version: str
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    # Of the entities (customers, viewers) that it answers: 0 in the shadow.
    share: Annotated[float, Meta(ge=0.0, le=1.0)]
    salt: Annotated[str, Meta(min_length=1, max_length=64)]
    since: datetime  # event time


def read_plan(root: Path, use_case: str) -> TrafficPlan | None:
    """The plan of a use case, or `None` where the champion answers alone.

    Raises:
        StateError: if the file is not what this module wrote.
    """
    return read_record(root / use_case / PLAN, TrafficPlan)


def write_plan(root: Path, plan: TrafficPlan) -> None:
    """Replace the plan of its use case, atomically."""
    replace_file(root / plan.use_case / PLAN, msgspec.json.encode(plan), durable=True)


def clear_plan(root: Path, use_case: str) -> None:
    """Let the champion answer alone."""
    (root / use_case / PLAN).unlink(missing_ok=True)
