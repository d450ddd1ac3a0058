"""`workbook up`: from whatever is there to a live system.

In: settings, and a state directory in any condition. Out: every service healthy, a first score, a first
recommendation, a table of what runs.
Invariant: every phase can be interrupted and done again; what an earlier `up` completed is not done twice.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reference_system.settings import Settings
    from reference_system.stack.bring_up.job import Job
    from reference_system.stack.bring_up.progress import Board
    from reference_system.stack.processes import Marked
    from reference_system.stack.supervisor.client import Supervisor

app = typer.Typer()

_INTERRUPTED = 130


@app.command("up")
def up() -> None:
    """Start everything, heal what is broken, and show what runs."""
    from reference_system.settings import load_settings
    from reference_system.stack.bring_up.progress import Board
    from reference_system.stack.locks import one_at_a_time
    from reference_system.stack.state_dir import refuse_foreign

    began = time.monotonic()
    settings = load_settings()
    refuse_foreign(settings.state_dir)
    with _stoppable(), one_at_a_time(settings.state_dir, "up"), Board() as board:
        _bring_up(settings, board)
    _print_table(settings, seconds=time.monotonic() - began)


def _bring_up(settings: Settings, board: Board) -> None:
    from reference_system.paths import StatePaths
    from reference_system.stack.bring_up.jobs import run_jobs
    from reference_system.stack.database_checks import require_sound
    from reference_system.stack.machine import require_disk
    from reference_system.stack.state_dir import prepare_state_dir
    from reference_system.stack.supervisor.daemon import start_supervisor

    require_disk(settings.state_dir)
    prepare_state_dir(settings)
    require_sound(StatePaths(settings.state_dir))
    supervisor = _running_supervisor(settings, board)
    _begin_again_what_is_gone(settings, board, running=supervisor is not None)
    _require_ports(settings, supervisor)
    run_jobs(_jobs(settings, supervisor or start_supervisor(settings), board), board)


def _begin_again_what_is_gone(settings: Settings, board: Board, *, running: bool) -> None:
    """The bootstrap is done once, unless what it made cannot be used any more."""
    from reference_system.errors import BundleRefused, StateError
    from reference_system.paths import StatePaths
    from reference_system.registry.bundles.bundle import verify_current
    from reference_system.stack.database_checks import has_tables
    from reference_system.stack.state_dir import forget_done, is_done
    from reference_system.use_case import USE_CASES

    if not is_done(settings, "bootstrap"):
        return
    paths = StatePaths(settings.state_dir)
    gone = []
    if not has_tables(paths.online_store):
        if running:  # with the file that was removed still open
            raise StateError(f"{paths.online_store} is gone", next_command="make down && make up")
        gone.append("the online store is gone: filled again from the lake")
    if not paths.feast_registry.exists():
        gone.append("Feast's registry is gone: written again from the declarations")
    for use_case in USE_CASES:
        try:
            verify_current(paths.bundles, use_case)
        except BundleRefused as refused:
            gone.append(f"{use_case}: {refused}; brought again from the registry")
    for line in gone:
        board.note(line)
        forget_done(settings, "bootstrap")


def _running_supervisor(settings: Settings, board: Board) -> Supervisor | None:
    """The supervisor that answers; if none does, what a killed one left behind is stopped."""
    from reference_system.stack.supervisor.client import Supervisor
    from reference_system.stack.supervisor.daemon import end_orphans, stop_stray_steps, unexpected_ends

    supervisor = Supervisor(settings)
    if supervisor.is_alive():
        board.note("the supervisor runs already; what is missing is started")
        stray = stop_stray_steps(settings)
        if stray:
            board.note(f"an earlier bring-up left {_listed(stray)}: stopped, to be begun again")
        for line in unexpected_ends(settings, supervisor):
            board.note(line)
        return supervisor
    orphans = end_orphans(settings)
    if orphans:
        board.note(f"the supervisor was gone, its processes were not: stopped {_listed(orphans)}")
    return None


def _listed(processes: Iterable[Marked]) -> str:
    return ", ".join(str(process) for process in processes)


def _require_ports(settings: Settings, supervisor: Supervisor | None) -> None:
    from reference_system.stack.ports import require_ports
    from reference_system.stack.services import services
    from reference_system.stack.supervisor.client import ALIVE_STATES

    states = {} if supervisor is None else supervisor.processes()
    idle = [s for s in services(settings) if s.name not in states or states[s.name].state not in ALIVE_STATES]
    wanted = [port for service in idle for port in service.ports]
    require_ports(settings, wanted if supervisor is not None else [*wanted, "supervisor"])


def _jobs(settings: Settings, supervisor: Supervisor, board: Board) -> list[Job]:
    """Everything there is to do. History is made while the platform starts: neither needs the other."""
    from reference_system.commands.system.first_requests import first_recommendation, first_score
    from reference_system.stack.bring_up.job import Job
    from reference_system.stack.bring_up.jobs import BringUpStep, Call, ServiceStart, step_log
    from reference_system.stack.services import services

    def step(name: str, title: str, *needs: str) -> Job:
        work = BringUpStep(settings, name)
        return Job(name=name, title=title, work=work, needs=needs, log=step_log(settings, name))

    platform = tuple(service.name for service in services(settings) if service.platform)
    jobs = [
        Job(name="jars", title="Kafka's jars, checksums verified", work=Call(lambda: _resolve_jars(board))),
        step("history", f"history: {settings.history_days} days of events"),
        Job(name="topics", title="topics", work=Call(lambda: _ensure_topics(settings)), needs=("kafka",)),
        step("bootstrap", "bootstrap: ETL, training, first champions", "history", "topics", *platform),
    ]
    for service in services(settings):
        needs = () if service.platform else ("bootstrap",)
        jobs.append(
            Job(
                name=service.name,
                title=f"{service.name} at {service.url}",
                work=ServiceStart(settings, supervisor, service),
                needs=("jars",) if service.name == "kafka" else needs,
                log=step_log(settings, service.name),
            )
        )
    for name, request in (("first score", first_score), ("first recommendation", first_recommendation)):
        work = Call(lambda request=request: board.note(request(settings)))  # type: ignore[misc]
        jobs.append(Job(name=name, title=name, work=work, needs=("serving",)))
    return jobs


def _resolve_jars(board: Board) -> None:
    from reference_system.stack.kafka.jars import resolve_jars

    def show(name: str, done: int, total: int) -> None:
        board.progressed("jars", f"Kafka's jars: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({name})")

    resolve_jars(show)


def _ensure_topics(settings: Settings) -> None:
    from reference_system.stack.kafka.topics import ensure_topics, wait_for_broker
    from reference_system.use_cases import BROKER_TOPICS

    wait_for_broker(settings.kafka_bootstrap, settings.ready_seconds)
    ensure_topics(settings.kafka_bootstrap, BROKER_TOPICS, settings.kafka_partitions)


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and a closed terminal end a bring-up as Ctrl-C does: in good order, with one line."""
    import signal

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    except KeyboardInterrupt as error:
        typer.secho(
            "interrupted: started services go on; `make up` continues, `make down` stops them",
            fg=typer.colors.RED,
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from error
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _print_table(settings: Settings, *, seconds: float) -> None:
    from reference_system.commands.system.status import print_services
    from reference_system.paths import StatePaths
    from reference_system.stack.disk_use import lack_of_room
    from reference_system.stack.status_report import service_states

    states = service_states(settings)
    typer.echo()
    print_services(settings, states)
    memory = sum(state.rss_mb or 0 for state in states)
    typer.echo(f"\nup in {seconds:.0f} s; {memory:.0f} MB resident; logs in {StatePaths(settings.state_dir).logs}")
    problem = lack_of_room(settings.state_dir, least_free_mb=settings.least_free_mb)
    if problem is not None:
        typer.secho(f"{problem}; `workbook status` shows what is largest", fg=typer.colors.RED, err=True)
    typer.echo("next: `workbook status`, `workbook logs NAME -f`, `workbook scenario list`, `make load`, `make down`")
