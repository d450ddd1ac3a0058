"""The load generator against a small real server: what it measures is what happened."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from reference_system.clock import wall_now
from reference_system.commands.proofs.load import require_ready, run_load
from reference_system.errors import ServiceError, SetupError
from reference_system.load_test import generator as load_generator
from reference_system.load_test.plan import LoadPlan, read_profile
from reference_system.load_test.report import RunFile
from reference_system.load_test.samples import load_samples
from reference_system.paths import PROJECT_ROOT
from reference_system.settings import LOOPBACK, Settings
from reference_system.stack.local_http import ask

RATE, SECONDS, WARM_UP = 100.0, 5.0, 1.0
STALL_SECONDS = 0.5


@contextmanager
def stand_in(settings: Settings, **behaviour: str) -> Iterator[None]:
    """The stand-in service on the serving port, until it answers."""
    process = subprocess.Popen(
        [sys.executable, str(PROJECT_ROOT / "tests" / "load_stand_in.py"), str(settings.port("serving"))],
        env={**os.environ, **behaviour},
    )
    try:
        wait_until_ready(settings)
        yield
    finally:
        process.kill()  # asked politely, it would wait for the requests that hang
        process.wait(10)


def wait_until_ready(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            require_ready(settings)
        except ServiceError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the stand-in did not start")


def plan_of(settings: Settings, **changes: object) -> LoadPlan:
    profile, shape = read_profile("both")
    plan = LoadPlan(
        url=settings.url("serving"),
        run=wall_now().strftime("%Y%m%dT%H%M%SZ"),
        rate=RATE,
        seconds=SECONDS,
        warm_up_seconds=WARM_UP,
        seed=1,
        shares=profile.shares,
        shape=shape,
        customers=settings.customers,
        terminals=settings.terminals,
        viewers=settings.viewers,
    )
    return msgspec.structs.replace(plan, **changes)


def closed_loop(port: int, seconds: float) -> np.ndarray:
    """One user at 100 requests/s who waits for each answer before the next request, latency from the actual send."""
    connection = http.client.HTTPConnection(LOOPBACK, port)
    body = b'{"transaction_id":"x1","customer_id":"c000001","terminal_id":"t000001","amount":1.0}'
    latencies = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent = time.monotonic()
        connection.request("POST", "/v1/fraud/score", body=body)
        connection.getresponse().read()
        latencies.append(time.monotonic() - sent)
        time.sleep(max(1 / RATE - latencies[-1], 0))
    connection.close()
    return 1_000 * np.array(latencies)


def test_a_stall_shows_in_our_p99_and_a_closed_loop_hides_it(settings: Settings):
    stall = {"STALL_AT": "250", "STALL_SECONDS": str(STALL_SECONDS)}
    with stand_in(settings, **stall):
        open_loop = run_load(settings, plan_of(settings), "test").figures.endpoints["all"]
    with stand_in(settings, **stall):
        closed = closed_loop(settings.port("serving"), SECONDS)
    # A tenth of the arrivals fall into the stall and wait for its end; the closed loop sends one request into it.
    assert closed.max() > 1_000 * STALL_SECONDS
    assert (closed > 1_000 * STALL_SECONDS).sum() == 1
    assert open_loop.p99_ms > 0.7 * 1_000 * STALL_SECONDS
    assert np.percentile(closed, 99) < 0.5 * open_loop.p99_ms


def test_a_run_leaves_a_run_file_whose_requests_were_all_sent(settings: Settings):
    with stand_in(settings):
        run = run_load(settings, plan_of(settings, seconds=3.0), "test")
        payments = msgspec.json.decode(ask(settings.port("serving"), "/payments").body)
    assert msgspec.json.decode(run.path(".json").read_bytes(), type=RunFile) == run
    samples = load_samples(run.path(".npz"))
    assert len(payments) == (samples.endpoint == samples.endpoints.index("fraud")).sum()
    assert all(payment["transaction_id"].startswith(f"load-{run.plan.run}-") for payment in payments)
    assert run.figures.endpoints["all"].errors == {}
    assert run.figures.service.requests_per_second == pytest.approx(RATE, rel=0.5)
    assert run.figures.service.cpu_ms_per_request > 0
    assert run.figures.generator_cpu_share > 0


def test_errors_are_counted_by_kind(settings: Settings):
    with stand_in(settings, FAIL_EVERY="10"):
        row = run_load(settings, plan_of(settings, seconds=2.0), "test").figures.endpoints["all"]
    assert set(row.errors) == {"HTTP 503"}
    assert row.errors["HTTP 503"] == pytest.approx(row.requests / 10, rel=0.3)
    assert row.p99_ms is None


def test_a_hanging_service_leaves_timeouts_and_requests_that_were_never_sent(settings: Settings):
    with stand_in(settings, HANG="1"):
        row = run_load(
            settings, plan_of(settings, seconds=2.0, timeout_seconds=1.0, max_in_flight=30), "test"
        ).figures.endpoints["all"]
    assert set(row.errors) == {"no answer in time", "never sent: too many requests in flight"}
    assert sum(row.errors.values()) == row.requests
    assert row.max_ms is None


def test_degraded_answers_raise_a_doubt(settings: Settings):
    with stand_in(settings, DEGRADED="1"):
        figures = run_load(settings, plan_of(settings, seconds=1.0), "test").figures
    assert figures.endpoints["all"].degraded == figures.endpoints["all"].requests
    assert any("degraded" in doubt for doubt in figures.doubts)


def test_load_to_another_host_is_refused(settings: Settings):
    with pytest.raises(SetupError, match="this machine only"):
        run_load(settings, plan_of(settings, url="http://192.0.2.1:3000"), "test")


def test_the_generator_itself_refuses_another_host(settings: Settings, tmp_path: Path):
    plan = plan_of(settings, url="http://192.0.2.1:3000")
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    environment = load_generator._environment(settings, tmp_path, tmp_path / "samples.npz")
    result = subprocess.run(
        load_generator._command(plan), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "this machine only" in result.stdout + result.stderr
    assert not (tmp_path / "samples.npz").exists()


def test_without_a_service_there_is_one_line_with_the_next_command(settings: Settings):
    with pytest.raises(ServiceError, match="no real-time service answers") as caught:
        require_ready(settings)
    assert caught.value.next_command == "make up"


def test_the_verb_prints_the_run_file_as_json(settings: Settings, tmp_path: Path):
    environment = {
        **os.environ,
        "WORKBOOK_STATE_DIR": str(settings.state_dir),
        "WORKBOOK_PORT_OFFSET": str(settings.port_offset),
    }
    with stand_in(settings):
        result = subprocess.run(
            [
                *(sys.executable, "-m", "reference_system.commands.proofs.load"),
                *("--endpoint", "fraud", "--rate", "20", "--seconds", "1", "--json"),
            ],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=True,
        )
    run = msgspec.json.decode(result.stdout, type=RunFile)
    assert set(run.figures.endpoints) == {"fraud", "all"}
    assert run.path(".html").exists()
