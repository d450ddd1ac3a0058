"""Every setting, in one typed and frozen value.

Read once at the entry point (`load_settings()`) and passed down. Each field can be overridden by an environment
variable or a line in the project's `.env`: `WORKBOOK_` and the field's name in capitals. `docs/settings.md`
documents them all and a test compares the two.

Invariant: the same settings wherever the command is called from; relative paths start at the project's folder.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reference_system.errors import SetupError
from reference_system.paths import PROJECT_ROOT

LOOPBACK = "127.0.0.1"
ENV_PREFIX = "WORKBOOK_"

# macOS listens there itself (AirPlay), and many tutorials do.
FORBIDDEN_PORT = 5000
_LAST_PORT = 65_535


class Settings(BaseSettings):
    """The whole configuration of one running system."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_file=PROJECT_ROOT / ".env", frozen=True, extra="forbid"
    )

    state_dir: Path = Field(Path(".state"), description="Everything the system writes lives under this folder.")
    port_offset: int = Field(
        0, ge=0, le=20_000, description="Added to every port, so that two systems run side by side."
    )
    kafka_port: int = Field(9092, description="Kafka broker.")
    kafka_controller_port: int = Field(9093, description="Kafka KRaft controller.")
    mlflow_port: int = Field(5050, description="MLflow tracking server and registry.")
    prefect_port: int = Field(4200, description="Prefect server.")
    serving_port: int = Field(3000, description="BentoML real-time service.")
    ingestion_metrics_port: int = Field(9101, description="Prometheus metrics of ingestion.")
    world_metrics_port: int = Field(9102, description="Prometheus metrics of the world.")
    flows_metrics_port: int = Field(
        9103, description="Prometheus metrics of monitoring (served by the flows process)."
    )
    supervisor_port: int = Field(
        9104, description="supervisord's control port (loopback, password in the state directory)."
    )

    seed: int = Field(7, description="Seed of the simulated world.")
    speed: float = Field(1440.0, gt=0, le=100_000, description="Simulated seconds per real second.")
    history_start: datetime = Field(
        datetime(2025, 1, 6, tzinfo=UTC), description="First day of the generated history (UTC midnight)."
    )
    history_days: int = Field(90, ge=45, le=730, description="Days of generated history.")
    customers: int = Field(5_000, ge=50, description="Card holders.")
    terminals: int = Field(10_000, ge=50, description="Payment terminals.")
    viewers: int = Field(5_000, ge=50, description="Viewers of the video platform.")
    videos: int = Field(2_000, ge=100, description="Videos at the start of history.")

    kafka_partitions: int = Field(4, ge=1, le=64, description="Partitions of every topic, and so tasks of ingestion.")
    ingestion_tasks: str = Field(
        "",
        pattern=r"^(\d+(,\d+)*)?$",
        description="Tasks that this ingestion process owns, for example `0,1`; all of them if empty.",
    )
    kafka_heap_mb: int = Field(384, ge=256, description="Java heap of the broker.")

    etl_every_hours: float = Field(48.0, gt=0, description="Simulated hours between two ETL runs.")
    train_every_hours: float = Field(168.0, gt=0, description="Simulated hours between two training runs.")
    monitor_every_hours: float = Field(24.0, gt=0, description="Simulated hours between two monitoring runs.")
    batch_every_hours: float = Field(120.0, gt=0, description="Simulated hours between two batch scoring runs.")

    release_every_hours: float = Field(6.0, gt=0, description="Simulated hours between two looks at a release.")
    shadow_hours: float = Field(12.0, gt=0, description="Simulated hours that a challenger spends in the shadow.")
    canary_hours: float = Field(24.0, gt=0, description="Simulated hours that a challenger spends as canary.")
    canary_share: float = Field(
        0.2, gt=0, lt=1, description="Share of the customers or viewers that a canary answers."
    )

    explored_places: int = Field(
        1, ge=0, le=1, description="Places of a served page left to chance, with logged probability; 0 is off."
    )

    keep_days: int = Field(
        180,
        ge=120,
        description="Days of event time that are kept, those of the generated history at least; older ones go.",
    )

    least_free_mb: int = Field(
        1_000, ge=0, description="MB that must be free on the disk of the state; with less the world stands still."
    )

    ready_seconds: float = Field(90.0, gt=0, description="Deadline for a service to become healthy.")

    @field_validator("history_start")
    @classmethod
    def _is_utc_midnight(cls, value: datetime) -> datetime:
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if value != value.replace(hour=0, minute=0, second=0, microsecond=0):
            raise ValueError("must be midnight UTC, for example 2025-01-06")
        return value

    @model_validator(mode="after")
    def _tasks_exist(self) -> Self:
        if max(self.owned_tasks) >= self.kafka_partitions:
            raise ValueError(
                f"ingestion_tasks names task {max(self.owned_tasks)} of {self.kafka_partitions} (0 is first)"
            )
        return self

    @field_validator("state_dir")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        path = PROJECT_ROOT / value.expanduser()
        # Both have a meaning in supervisord's configuration, in different places differently.
        if "%" in str(path) or ";" in str(path):
            raise ValueError("the path of the state directory must not contain % or ;")
        return path

    @model_validator(mode="after")
    def _ports_can_be_used(self) -> Self:
        ports = {name: self.port(name) for name in PORT_NAMES}
        for name, port in ports.items():
            if not 0 < port <= _LAST_PORT:
                raise ValueError(f"{name} would listen on port {port}, which does not exist")
            if port == FORBIDDEN_PORT:
                raise ValueError(f"{name} would listen on port {port}, which macOS keeps for itself")
        for one, other in combinations(ports, 2):
            if ports[one] == ports[other]:
                raise ValueError(f"{one} and {other} would both listen on port {ports[one]}")
        return self

    @property
    def owned_tasks(self) -> list[int]:
        """The tasks of `ingestion_tasks`."""
        numbers = self.ingestion_tasks.split(",") if self.ingestion_tasks else range(self.kafka_partitions)
        return sorted({int(number) for number in numbers})

    def port(self, name: str) -> int:
        """The port of `kafka`, `kafka_controller`, `mlflow`, `prefect`, `serving`, … with the offset added."""
        return int(getattr(self, f"{name}_port")) + self.port_offset

    def url(self, name: str) -> str:
        """The loopback address of an HTTP service, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.port(name)}"

    @property
    def kafka_bootstrap(self) -> str:
        """The broker's `host:port`."""
        return f"{LOOPBACK}:{self.port('kafka')}"


PORT_NAMES = tuple(name.removesuffix("_port") for name in Settings.model_fields if name.endswith("_port"))


def load_settings() -> Settings:
    """The settings of this process: defaults, then `.env`, then the environment.

    Raises:
        SetupError: naming the first variable that cannot be used, and why.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SetupError(_first_problem(error), next_command="cat docs/settings.md") from error


def _first_problem(error: ValidationError) -> str:
    """One line for one wrong setting, in the words of the person who set it."""
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return f"the settings do not fit together: {message}"
    name = str(problem["loc"][0])
    if name not in Settings.model_fields:
        return f"{name.upper()} in .env is no setting"
    return f"{ENV_PREFIX}{name.upper()}={problem['input']}: {message[0].lower()}{message[1:]}"
