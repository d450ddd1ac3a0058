"""`workbook bench online-read`: the fifteen inputs of one transaction, compared with Feast's SDK and with SELECTs.

In: settings. Out: CPU microseconds per transaction of Feast's SDK on its own SQLite store, of the service's read
path, of its reads alone, and of two SELECTs of the same bytes; p50 and p99 of the read path, alone and with a
concurrent writer.
Invariant: contenders are measured in turn, lap after lap, for the same transactions; the last two are compared byte
by byte first, and a first lap is not counted.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from time import perf_counter_ns, process_time

import msgspec
import numpy as np

from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND, micros
from reference_system.features.feast.store import apply, open_store, read_states, write_states
from reference_system.paths import StatePaths
from reference_system.progress import Progress
from reference_system.proofs.baselines.feast_naive_read import open_naive_read
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio
from reference_system.proofs.benchmarks.states_writer import PAUSE_SECONDS, STATES_A_WRITE, write_until_told
from reference_system.proofs.scratch_system import scratch_folder
from reference_system.serving.api import FraudScoreRequest
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud_scoring import payment_inputs
from reference_system.settings import Settings
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, VIEWS
from reference_system.windows import Tail, WindowedView

CUSTOMERS, TERMINALS = 5_000, 10_000
# The payments per day of this many customers in the generated world.
PAYMENTS_A_DAY = 9_600
ASKED = 4_000
READ_LAPS = 15
NAIVE_SHARE = 20  # a call of the SDK costs so much more that a twentieth of the transactions is enough
_SEED = 7
_MOMENT = datetime(2025, 6, 1, 12, tzinfo=UTC)


class _Contenders(msgspec.Struct, frozen=True, kw_only=True):
    """A function of each contender that reads the transactions once."""

    naive: Callable[[], object]
    ours: Callable[[], object]
    reads: Callable[[], object]
    direct: Callable[[], object]


def measure_online_read(
    settings: Settings, *, asked: int = ASKED, laps: int = READ_LAPS, progress: Progress
) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    cpu: dict[str, list[float]] = {name: [] for name in _Contenders.__struct_fields__}
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    progress(0.0, f"writing states of {CUSTOMERS:,} customers and {TERMINALS:,} terminals to both stores")
    with scratch_folder(StatePaths(settings.state_dir).scratch, "bench-online-read") as folder:
        paths = StatePaths(folder)
        read = _written(paths)
        requests = _requests(asked)
        with closing(sqlite3.connect(paths.online_store)) as connection:
            contenders = _contenders(paths, requests, read, connection)
            _freeze()
            for lap in range(laps + 1):
                progress(0.3 + 0.4 * lap / (laps + 1), f"lap {lap} of {laps}: CPU time, in turn")
                for name, found in cpu.items():
                    began = process_time()
                    getattr(contenders, name)()
                    found.append((process_time() - began) / _transactions(name, asked) * MICROS_PER_SECOND)
        for lap in range(laps):
            progress(0.7 + 0.3 * lap / laps, f"lap {lap + 1} of {laps}: latency, alone and with a writer")
            alone.append(_latency(requests, read))
            with _writer(paths):
                beside.append(_latency(requests, read))
        gc.unfreeze()
    progress(1.0, "done")
    return _result(asked, {name: found[1:] for name, found in cpu.items()}, alone, beside)


def _transactions(name: str, asked: int) -> int:
    return asked // NAIVE_SHARE if name == "naive" else asked


def _written(paths: StatePaths) -> ReadStates:
    """Write the states of every entity as ingestion does; returns the function that reads them."""
    store = open_store(paths)
    apply(store)
    rng = np.random.default_rng(_SEED)
    for view, letter, entities in ((CUSTOMER_ACTIVITY, "c", CUSTOMERS), (TERMINAL_RISK, "t", TERMINALS)):
        days = view.horizon_micros / MICROS_PER_DAY + 1
        rows = []
        for number, count in enumerate(rng.poisson(PAYMENTS_A_DAY * days / entities, entities).tolist()):
            tail = _tail(view, rng, count, days)
            newest = int(tail.times[-1]) if count else micros(_MOMENT)
            rows.append((f"{letter}{number:06d}", newest, 0, tail.pack()))
        write_states(store, view, rows)
    return partial(read_states, store)


def _tail(view: WindowedView, rng: np.random.Generator, count: int, days: float) -> Tail:
    ages = rng.uniform(1, days * MICROS_PER_DAY, count).astype(np.int64)
    columns = {
        "amount": np.round(rng.lognormal(3.5, 1.0, count), 2),
        "transactions": np.ones(count),
        "frauds": (rng.random(count) < 0.01).astype(np.float64),  # noqa: PLR2004 - one payment in a hundred
    }
    return Tail(np.sort(micros(_MOMENT) - ages), np.column_stack([columns[name] for name in view.columns]))


def _requests(asked: int) -> list[FraudScoreRequest]:
    rng = np.random.default_rng(_SEED + 1)
    customers, terminals = rng.integers(CUSTOMERS, size=asked), rng.integers(TERMINALS, size=asked)
    return [
        FraudScoreRequest(
            transaction_id=f"x{number}", customer_id=f"c{customer:06d}", terminal_id=f"t{terminal:06d}", amount=42.5
        )
        for number, (customer, terminal) in enumerate(zip(customers.tolist(), terminals.tolist(), strict=True))
    ]


def _contenders(
    paths: StatePaths, requests: Sequence[FraudScoreRequest], read: ReadStates, connection: sqlite3.Connection
) -> _Contenders:
    keys = [(request.customer_id, request.terminal_id) for request in requests]
    few = keys[: len(keys) // NAIVE_SHARE]
    ids = ([f"c{number:06d}" for number in range(CUSTOMERS)], [f"t{number:06d}" for number in range(TERMINALS)])
    naive = open_naive_read(paths.root / "naive", *ids, _MOMENT)
    select = _direct(connection, keys)
    _compare([each for key in keys for each, _ in read(VIEWS, key)], select())

    def sdk() -> None:
        for customer, terminal in few:
            naive(customer, terminal)

    def ours() -> None:
        for request in requests:
            payment_inputs(request, _MOMENT, read)

    def reads() -> None:
        for key in keys:
            read(VIEWS, key)

    return _Contenders(naive=sdk, ours=ours, reads=reads, direct=select)


def _direct(connection: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> Callable[[], list[bytes | None]]:
    """Two SELECTs for each pair of keys, whose serialized form is looked up beforehand."""
    connection.execute("PRAGMA cache_size = -16000")  # as in our read path
    stored: dict[str, bytes] = {}
    for view in VIEWS:
        found = connection.execute(f'SELECT entity_key FROM "{_table(view)}"')  # noqa: S608 - our own tables
        stored |= {key.decode(errors="replace")[-len("c000000") :]: key for (key,) in found}
    of_customer, of_terminal = (f'SELECT value FROM "{_table(view)}" WHERE entity_key = ?' for view in VIEWS)  # noqa: S608 - the same
    serialized = [((stored[customer],), (stored[terminal],)) for customer, terminal in keys]

    def select() -> list[bytes | None]:
        states = []
        for customer, terminal in serialized:
            states += connection.execute(of_customer, customer).fetchone()
            states += connection.execute(of_terminal, terminal).fetchone()
        return states

    return select


def _compare(ours: list[bytes | None], direct: list[bytes | None]) -> None:
    if ours != direct:
        raise StateError("the read path and SQLite itself give different bytes: the comparison is not valid")


def _table(view: WindowedView) -> str:
    return f"workbook_{view.name}_state"


def _latency(requests: Sequence[FraudScoreRequest], read: ReadStates) -> tuple[float, float]:
    """p50 and p99 of the read path, wall-clock microseconds."""
    found = np.empty(len(requests))
    for place, request in enumerate(requests):
        began = perf_counter_ns()
        payment_inputs(request, _MOMENT, read)
        found[place] = perf_counter_ns() - began
    p50, p99 = np.quantile(found / 1_000, [0.5, 0.99]).tolist()
    return p50, p99


@contextmanager
def _writer(paths: StatePaths) -> Iterator[None]:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    tables = [_table(view) for view in VIEWS]
    process = spawn.Process(target=write_until_told, args=(paths.online_store, tables, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield
        ours.send(None)
    except (EOFError, BrokenPipeError):
        raise StateError("the process that writes during the reads has ended") from None
    finally:
        ours.close()
        process.join()


def _freeze() -> None:
    # As the service does at its start: no contender pays for the objects of the others.
    gc.collect()
    gc.freeze()


def _result(
    asked: int,
    cpu: dict[str, list[float]],
    alone: Sequence[tuple[float, float]],
    beside: Sequence[tuple[float, float]],
) -> BenchResult:
    unit, wall = "CPU µs per transaction", "µs"
    shown = {
        "naive": "Feast's SDK, its SQLite store",
        "ours": "ours: two states read, fifteen inputs finished",
        "reads": "ours: two states read",
        "direct": "two SELECTs of the same bytes",
    }
    p50s, p99s = ([lap[place] for lap in beside] for place in (0, 1))
    return BenchResult(
        name="online-read",
        conditions={
            "transactions": f"{asked:,} a lap, {asked // NAIVE_SHARE:,} for the SDK",
            "entities": f"{CUSTOMERS:,} customers, {TERMINALS:,} terminals, {PAYMENTS_A_DAY:,} payments a day",
            "writer": f"another process commits {STATES_A_WRITE} states, then pauses {PAUSE_SECONDS * 1e3:.0f} ms",
        },
        figures=[
            *(BenchFigure(what=shown[name], unit=unit, laps=laps) for name, laps in cpu.items()),
            BenchFigure(what="ours, p50 alone", unit=wall, laps=[p50 for p50, _ in alone]),
            BenchFigure(what="ours, p99 alone", unit=wall, laps=[p99 for _, p99 in alone]),
            BenchFigure(what="ours, p50 with a writer", unit=wall, laps=p50s),
            BenchFigure(what="ours, p99 with a writer", unit=wall, laps=p99s),
        ],
        goals=[
            BenchGoal(
                what="Feast's SDK against ours",
                found=figure_ratio(cpu["naive"], cpu["ours"]),
                bound=10.0,
                kind="at least",
            ),
            BenchGoal(
                what="ours against the two SELECTs",
                found=figure_ratio(cpu["ours"], cpu["direct"]),
                bound=2.0,
                kind="at most",
            ),
            BenchGoal(what="p99 against p50 with a writer", found=figure_ratio(p99s, p50s), bound=5.0, kind="at most"),
        ],
    )
