"""Locust: requests leave when they are due, whatever the service does.

In: the plan and two file names, from the environment (`workbook load` sets them). Out: a sample per request, and once
in a while the state of the run.
Invariant: a slow answer delays no other request, and a latency begins when its request was due.
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
# The first arrivals need a moment in which the greenlets of this process have started.
HEAD_START_SECONDS = 0.2
HEADERS = {"Content-Type": "application/json"}


class Refused(Exception):  # noqa: N818 - refusing is what the generator does
    """The bound on requests in flight was reached: this one was never sent."""


class NotAnAnswer(Exception):  # noqa: N818 - the fact, not an error of ours
    """Status 200 and a body that is no JSON object."""


class _Answer(msgspec.Struct, frozen=True):
    """What we read of an answer."""

    degraded: bool = False


def read_plan() -> LoadPlan:
    """The plan that `workbook load` wrote."""
    plan = msgspec.json.decode(Path(os.environ[PLAN_VARIABLE]).read_bytes(), type=LoadPlan)
    require_loopback(plan.url)
    return plan


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust ships no types
def refuse_early(**_: object) -> None:
    """End before the first request; an error in a user would leave Locust waiting for ever."""
    try:
        read_plan()
    except KeyError:
        raise SystemExit("this file needs a plan; run `workbook load`") from None
    except WorkbookError as error:
        raise SystemExit(error.for_person()) from None


class Arrivals(FastHttpUser):
    """All customers and viewers at once: together they are one Poisson process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Locust's own signature
        """Read the plan; the client's pool must be as large as the number of requests that may wait."""
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
        """The whole run, once: what goes wrong ends it, where Locust would begin again."""
        try:
            self.run_plan()
            self.recorder.save(Path(os.environ[SAMPLES_VARIABLE]))
        finally:
            self.environment.runner.quit()
        raise StopUser

    def run_plan(self) -> None:
        """Dispatch every arrival when it is due, then wait for the answers."""
        todo = arrivals(self.plan)
        # Many small objects that live to the end: a full collection in the middle would be a stall of our own.
        gc.collect()
        gc.freeze()
        self.began = perf_counter() + HEAD_START_SECONDS
        reporter = gevent.spawn(self.report)
        for arrival in todo:
            # Even without a wait the greenlets that are due must get their turn.
            gevent.sleep(max(self.began + arrival.due - perf_counter(), 0.0))
            self.dispatch(arrival)
        gevent.sleep(max(self.began + self.plan.whole_seconds - perf_counter(), 0.0))
        self.pool.join()  # each has its own timeout
        reporter.kill()

    def dispatch(self, arrival: PlannedRequest) -> None:
        """Send in a greenlet of its own, or count the refusal."""
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
        """One request through Locust's client; its response time is counted from the due time."""
        context = {"arrival": arrival, "sent": perf_counter()}
        # Locust's own timeouts hold for each read of a socket; this one for the request.
        with (
            gevent.Timeout(self.plan.timeout_seconds),
            self.client.post(
                PATHS[arrival.endpoint],
                data=arrival.body,  # type: ignore[arg-type] # bytes are what it sends in the end
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
        """Locust's request event becomes a sample."""
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
        """Tell `workbook load` how far the run is, from Locust's statistics, without the warm-up."""
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
    """What went wrong, in a few words that group like with like; empty if nothing did."""
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
