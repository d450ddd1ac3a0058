"""Locust file: sends requests when they are due, independent of the service.

In: the plan and two file names, from the environment (`workbook load` sets them). Out: a sample per request, and
regularly the progress of the run.
Invariant: a slow answer delays no other request, and latency counts from the due time.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import msgspec
from gevent.pool import Pool
from locust import FastHttpUser, events, task
from locust.exception import StopUser

from reference_system.errors import WorkbookError
from reference_system.load_test.plan import PATHS, LoadPlan, PlannedRequest, arrivals, require_loopback
from reference_system.load_test.samples import (
    PLAN_VARIABLE,
    PROGRESS_VARIABLE,
    SAMPLES_VARIABLE,
    GeneratorProgress,
    Recorder,
    write_progress,
)

PROGRESS_SECONDS = 0.5
# The greenlets of this process start before the first arrival.
HEAD_START_SECONDS = 0.2
HEADERS = {"Content-Type": "application/json"}


class Refused(Exception):  # noqa: N818 - an outcome, not an error of the program
    """The bound on requests in flight was reached: the request was never sent."""


class NotAnAnswer(Exception):  # noqa: N818 - an outcome, not an error of the program
    """Status 200 and a body that is not a JSON object."""


class _Answer(msgspec.Struct, frozen=True):
    """The field read from an answer."""

    degraded: bool = False


def read_plan() -> LoadPlan:
    """The plan that `workbook load` wrote."""
    plan = msgspec.json.decode(Path(os.environ[PLAN_VARIABLE]).read_bytes(), type=LoadPlan)
    require_loopback(plan.url)
    return plan


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust ships no types
def refuse_early(**_: object) -> None:
    """End before the first request; an error in a user would leave Locust waiting forever."""
    try:
        read_plan()
    except KeyError:
        raise SystemExit("this file needs a plan; run `workbook load`") from None
    except WorkbookError as error:
        raise SystemExit(error.for_person()) from None


class Arrivals(FastHttpUser):
    """All customers and viewers as one user: together they are one Poisson process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Locust's own signature
        """Read the plan; the client's pool must be as large as the number of requests that may be in flight."""
        self.plan = read_plan()
        self.host = self.plan.url
        self.concurrency = self.plan.max_in_flight
        self.network_timeout = self.connection_timeout = self.plan.timeout_seconds
        super().__init__(*args, **kwargs)
        # A redirect could lead away from this machine.
        type(self.client.client).redirect_response_codes = frozenset()
        self.decoder = msgspec.json.Decoder(_Answer)
        self.recorder = Recorder(tuple(PATHS))
        self.pool = Pool(self.plan.max_in_flight)
        self.environment.events.request.add_listener(self.hear)

    @task
    def arrive(self) -> None:
        """The whole run, once: an error ends it, where Locust would start it again."""
        try:
            self.run_plan()
            self.recorder.save(Path(os.environ[SAMPLES_VARIABLE]))
        finally:
            self.environment.runner.quit()
        raise StopUser

    def run_plan(self) -> None:
        """Dispatch every arrival when it is due, then wait for the answers."""
        todo = arrivals(self.plan)
        # Many small objects live to the end: a full collection during the run would stall the generator.
        gc.collect()
        gc.freeze()
        self.began = perf_counter() + HEAD_START_SECONDS
        reporter = gevent.spawn(self.report)
        for arrival in todo:
            # Even without a wait the other greenlets must run.
            gevent.sleep(max(self.began + arrival.due - perf_counter(), 0.0))
            self.dispatch(arrival)
        gevent.sleep(max(self.began + self.plan.whole_seconds - perf_counter(), 0.0))
        self.pool.join()  # each has its own timeout
        reporter.kill()

    def dispatch(self, arrival: PlannedRequest) -> None:
        """Send in a separate greenlet, or count the refusal."""
        if self.pool.free_count() > 0:
            self.pool.spawn(self.send, arrival)
            return
        self.environment.events.request.fire(
            request_type="POST",
            name=arrival.endpoint,
            response_time=0.0,
            response_length=0,
            exception=Refused(),
            context={"arrival": arrival, "sent": perf_counter()},
        )

    def send(self, arrival: PlannedRequest) -> None:
        """Send one request through Locust's client; its response time counts from the due time."""
        context = {"arrival": arrival, "sent": perf_counter()}
        # Locust's own timeouts apply to each socket read; this one to the whole request.
        with (
            gevent.Timeout(self.plan.timeout_seconds),
            self.client.post(
                PATHS[arrival.endpoint],
                data=arrival.body,  # type: ignore[arg-type] # the client sends bytes
                headers=HEADERS,
                name=arrival.endpoint,
                context=context,
                catch_response=True,
            ) as response,
        ):
            response.request_meta["response_time"] = 1_000 * (perf_counter() - self.began - arrival.due)
            if response.request_meta["exception"] is None:
                try:
                    answer = self.decoder.decode(response.content)
                    response.request_meta["context"]["degraded"] = answer.degraded
                except msgspec.MsgspecError:
                    response.failure(NotAnAnswer())

    def hear(
        self,
        *,
        response_time: float,
        exception: BaseException | None,
        context: dict[str, Any],
        **rest: Any,  # noqa: ANN401 - Locust's event
    ) -> None:
        """Record Locust's request event as a sample."""
        arrival: PlannedRequest = context["arrival"]
        self.recorder.add(
            due=arrival.due,
            lag=context["sent"] - self.began - arrival.due,
            latency=response_time / 1_000,
            endpoint=arrival.endpoint,
            outcome=kind_of(exception, rest.get("response")),
            degraded=context.get("degraded", False),
        )

    def report(self) -> None:
        """Report the progress to `workbook load`, from Locust's statistics, without the warm-up."""
        warm = False
        while True:
            elapsed = perf_counter() - self.began
            if not warm and elapsed >= self.plan.warm_up_seconds:
                warm = True
                self.environment.stats.clear_all()
            total = self.environment.stats.total
            write_progress(
                Path(os.environ[PROGRESS_VARIABLE]),
                GeneratorProgress(
                    elapsed=elapsed,
                    answered=total.num_requests,
                    failed=total.num_failures,
                    waiting=len(self.pool),
                    p50_ms=float(total.get_response_time_percentile(0.5)),
                    p99_ms=float(total.get_response_time_percentile(0.99)),
                ),
            )
            gevent.sleep(PROGRESS_SECONDS)


def kind_of(exception: BaseException | None, response: Any) -> str:  # noqa: ANN401 - Locust's response, or none
    """The kind of error, for grouping; empty for success."""
    if exception is None:
        return ""
    if isinstance(exception, Refused):
        return "never sent: too many requests in flight"
    if isinstance(exception, NotAnAnswer):
        return "status 200 without a JSON answer"
    if response is not None and response.status_code:
        return f"HTTP {response.status_code}"
    cause = getattr(exception, "original", None) or exception  # what the client wrapped
    if isinstance(cause, (TimeoutError, gevent.Timeout)):
        return "no answer in time"
    return type(cause).__name__
