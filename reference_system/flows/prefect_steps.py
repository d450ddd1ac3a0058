"""Steps of a flow, with Prefect or without.

In: tasks, flows and lines. Out: the same results and the same lines, whether Prefect watches the run or a command
calls the flow's function itself (`flow.fn`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect import Flow, Task, get_run_logger
from prefect.context import FlowRunContext

_log = logging.getLogger("reference_system.flows")

P = ParamSpec("P")
R = TypeVar("R")


def step(of: Task[P, R] | Flow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """A task or flow of the run that Prefect watches, or a plain call where no run is."""
    plain: Callable[P, R] = of if _is_watched() else of.fn
    return plain(*args, **kwargs)


def say(line: str) -> None:
    """A line in the run's log."""
    (get_run_logger() if _is_watched() else _log).info(line)


def warn(line: str) -> None:
    """A warning in the run's log."""
    (get_run_logger() if _is_watched() else _log).warning(line)


def _is_watched() -> bool:
    """Whether Prefect watches this run."""
    return FlowRunContext.get() is not None
