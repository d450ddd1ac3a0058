"""Where everything the system writes lives: one folder, one map.

Invariant: nothing outside `root` is ever written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The checkout: what belongs to the repository and not to the installed package is found from here.
PROJECT_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The map of a state directory (`Settings.state_dir`)."""

    root: Path

    @property
    def clock(self) -> Path:
        """The world's heartbeat (see `clock.py`)."""
        return self.root / "world" / "clock.json"

    @property
    def world(self) -> Path:
        """The simulator's checkpoint and its scenarios."""
        return self.root / "world"

    @property
    def lake(self) -> Path:
        """Delta tables, one folder a topic."""
        return self.root / "lake"

    @property
    def stream_tasks(self) -> Path:
        """SQLite, one file a task of ingestion: offsets, seen event ids and states of the stream."""
        return self.root / "ingestion"

    @property
    def feature_tables(self) -> Path:
        """Parquet that Feast's offline store reads, one folder a view."""
        return self.root / "feature_tables"

    @property
    def feast_registry(self) -> Path:
        """Feast's registry file."""
        return self.root / "feast" / "registry.db"

    @property
    def online_store(self) -> Path:
        """Feast's online store (SQLite, WAL)."""
        return self.root / "feast" / "online.sqlite"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artefacts."""
        return self.root / "mlflow"

    @property
    def prefect(self) -> Path:
        """Prefect's home: its database and settings."""
        return self.root / "prefect"

    @property
    def bundles(self) -> Path:
        """Verified model bundles, `<use case>/<version>/`, and the pointer `<use case>/current`."""
        return self.root / "bundles"

    @property
    def experiments(self) -> Path:
        """A/B tests, one file each (see `experiments/definition.py`)."""
        return self.root / "experiments"

    @property
    def kafka(self) -> Path:
        """The broker's log directories and configuration."""
        return self.root / "kafka"

    @property
    def batch(self) -> Path:
        """Batch predictions, Parquet by use case and day."""
        return self.root / "batch"

    @property
    def reports(self) -> Path:
        """Monitoring reports (HTML) and their figures (JSON)."""
        return self.root / "reports"

    @property
    def spool(self) -> Path:
        """Prediction-log records that Kafka has not accepted yet."""
        return self.root / "serving" / "spool"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.root / "logs"

    @property
    def supervisor(self) -> Path:
        """supervisord's rendered configuration, password and pid file."""
        return self.root / "supervisor"

    @property
    def datasets(self) -> Path:
        """What readers imported, one folder a dataset (see `lake/datasets.py`)."""
        return self.root / "datasets"

    @property
    def load_runs(self) -> Path:
        """Run files and plots of `make load`."""
        return self.root / "load"

    @property
    def bench_runs(self) -> Path:
        """Run files of `workbook bench`."""
        return self.root / "bench"

    @property
    def remembered_scores(self) -> Path:
        """What models said of rows that monitoring has looked at (see `monitoring/remembered_scores.py`)."""
        return self.reports / "scores.msgpack"

    @property
    def disk_sizes(self) -> Path:
        """What the state took at earlier moments (see `stack/disk_use.py`)."""
        return self.root / "disk.json"

    @property
    def scratch(self) -> Path:
        """Systems that a proof makes for itself and removes, one folder each."""
        return self.root / "scratch"
