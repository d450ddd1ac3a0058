"""What the verbs that run a flow now have in common.

In: a flow and its parameters. Out: its summary.
Invariant: where the Prefect server answers, the run is visible there; without it the flow does the same. What the
flow says while it works goes to stderr, so that stdout holds the answer alone.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect import Flow

    from reference_system.settings import Settings


_OURS = "reference_system"


def flow_settings() -> Settings:
    """The settings, and the environment of a flow. Call it before the flow is imported.

    MLflow and Prefect read their switches and deadlines when they are imported.
    """
    from reference_system.settings import load_settings
    from reference_system.stack.environment import child_environment

    settings = load_settings()
    os.environ.update(child_environment(settings))
    # Feast switches warnings of other libraries on again when it is imported; what they deprecate is their business.
    warnings.showwarning = lambda *_, **__: None
    # The run's log, tracebacks included, is on the server; at the prompt an error is one line.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    return settings


def run_now(settings: Settings, flow: Flow[..., Any], **parameters: object) -> dict[str, Any]:
    """Run the flow in this process; as a run of the Prefect server if it answers."""
    run = runner(settings, flow)
    for name in ("prefect.flow_runs", "prefect.task_runs", _OURS):
        logging.getLogger(name).addHandler(_Progress())
    logging.getLogger(_OURS).setLevel(logging.INFO)
    return run(**parameters)


def runner(settings: Settings, flow: Flow[..., Any]) -> Callable[..., dict[str, Any]]:
    """The flow for this process, once or many times: with a server that answers, each call is a run there."""
    from reference_system.stack.services import service_named

    visible = service_named(settings, "prefect").health.problem() is None
    where = f"{settings.url('prefect')}/runs" if visible else "not shown in Prefect: its server does not answer"
    typer.echo(f"running {flow.name} ({where})", err=True)
    run: Callable[..., dict[str, Any]] = flow if visible else flow.fn
    return run


class _Progress(logging.StreamHandler[Any]):
    """What our own flows say, as plain lines; errors come as one line at the end."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what the libraries say and what the server keeps."""
        return record.levelno < logging.ERROR and f"{os.sep}{_OURS}{os.sep}" in record.pathname
