"""Up, down and everything that can happen in between. Each test leaves the system as healthy as it found it."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import httpx
import psutil

from reference_system.settings import PORT_NAMES
from reference_system.stack.ports import is_port_free
from reference_system.stack.processes import marked_processes
from reference_system.stack.supervisor.client import Supervisor

if TYPE_CHECKING:
    from conftest import LiveSystem

SERVICES = ["kafka", "mlflow", "prefect", "serving", "ingestion", "world", "flows"]
HEALTHY = dict.fromkeys(SERVICES, "healthy")


def test_an_interrupted_up_says_so_and_the_next_one_finishes(live: LiveSystem) -> None:
    assert live.interrupted.returncode == 130
    assert live.interrupted.stderr == (
        "interrupted: started services go on; `make up` continues, `make down` stops them\n"
    )
    assert "the supervisor runs already" in live.first_up.stdout


def test_up_shows_progress_the_first_answers_and_the_table(live: LiveSystem) -> None:
    text = live.first_up.stdout

    for name in SERVICES:
        assert f"✓ {name} at " in text
    assert "POST /v1/fraud/score → {" in text
    assert "POST /v1/recommendations → {" in text
    assert "up in " in text
    assert "MB resident" in text


def test_status_has_every_service_healthy_with_its_memory(live: LiveSystem) -> None:
    status = live.healthy_status()

    assert list(status) == ["services", "clock", "events", "freshness_ms", "disk"]
    assert {"kafka", "lake", "mlflow", "logs"} <= status["disk"]["parts"].keys()
    for service in status["services"]:
        assert list(service) == ["name", "state", "url", "pid", "rss_mb"], service
        assert service["rss_mb"] > 10
    assert {service["name"]: service["state"] for service in status["services"]} == HEALTHY


def test_up_again_changes_nothing_that_runs(live: LiveSystem) -> None:
    before = live.pids()

    again = live.workbook("up")

    assert again.returncode == 0, again.stderr
    assert "the supervisor runs already" in again.stdout
    assert live.pids() == before


def test_a_killed_service_with_children_comes_back_and_up_says_so(live: LiveSystem) -> None:
    before = live.pids()
    os.kill(before["mlflow"], signal.SIGKILL)  # its worker lives on and holds the port

    up = live.workbook("up")

    assert up.returncode == 0, up.stdout + up.stderr
    assert "mlflow was killed by SIGKILL at " in up.stdout
    assert live.healthy_states() == HEALTHY
    after = live.pids()
    assert after["mlflow"] != before["mlflow"]
    assert {name: pid for name, pid in after.items() if name != "mlflow"} == {
        name: pid for name, pid in before.items() if name != "mlflow"
    }


def test_after_a_killed_supervisor_up_stops_the_orphans_and_starts_anew(live: LiveSystem) -> None:
    os.kill(Supervisor(live.settings).pid(), signal.SIGKILL)
    # One that loses its parent may end by itself.
    assert "orphaned" in (states := set(live.states().values()))
    assert states <= {"orphaned", "stopped"}

    up = live.workbook("up")

    assert up.returncode == 0, up.stdout + up.stderr
    assert "the supervisor was gone, its processes were not: stopped" in up.stdout
    assert live.healthy_states() == HEALTHY
    supervisors = [found for found in marked_processes(live.settings.state_dir) if found.service == "supervisor"]
    assert len(supervisors) == 1


def test_down_leaves_no_process_no_port_and_no_lock_and_up_goes_on_with_the_data(live: LiveSystem) -> None:
    acknowledged = live.status()["events"]["acknowledged"]

    down = live.workbook("down")

    assert down.returncode == 0, down.stderr
    assert down.stdout.startswith("stopped ")
    assert "left without its parent" not in down.stdout
    assert marked_processes(live.settings.state_dir) == []
    assert [name for name in PORT_NAMES if not is_port_free(live.settings.port(name))] == []
    assert not (live.settings.state_dir / "lock").exists()
    assert live.workbook("status").returncode == 3

    up = live.workbook("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert live.status()["events"]["acknowledged"] >= acknowledged


def test_clean_is_refused_while_it_runs(live: LiveSystem) -> None:
    clean = live.workbook("clean")

    assert clean.returncode == 1
    assert clean.stderr.startswith("the system is up (")
    assert clean.stderr.endswith("run `make down`\n")
    assert live.healthy_states() == HEALTHY


def test_restart_replaces_one_process(live: LiveSystem) -> None:
    before = live.pids()

    restart = live.workbook("restart", "world")

    assert restart.returncode == 0, restart.stderr
    after = live.pids()
    assert {name for name in SERVICES if before[name] != after[name]} == {"world"}


def test_everything_listens_on_loopback_only(live: LiveSystem) -> None:
    addresses = {
        connection.laddr.ip
        for found in marked_processes(live.settings.state_dir)
        for connection in psutil.Process(found.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_pages_of_mlflow_and_prefect_open_in_a_browser(live: LiveSystem) -> None:
    for name in ("mlflow", "prefect"):
        with httpx.Client(follow_redirects=True, trust_env=False) as browser:
            page = browser.get(live.settings.url(name), headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "<html" in page.text


def test_nobody_else_can_read_the_state(live: LiveSystem) -> None:
    assert stat.S_IMODE(live.settings.state_dir.stat().st_mode) == 0o700
