"""The figures of a report in MLflow: one run a report in the experiment `monitoring`.

In: a report and its page. Out: a run with metrics by use case and column, and the page as artefact.
Invariant: MLflow being away is said, and is no reason to lose the report.
"""

from __future__ import annotations

from pathlib import Path

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from reference_system.clock import wall_seconds
from reference_system.errors import ServiceError
from reference_system.monitoring.report.record import MonitoringReport

MONITORING_EXPERIMENT = "monitoring"


def log_report(tracking_uri: str, report: MonitoringReport, page: Path) -> str:
    """Write the run; returns its id.

    Raises:
        ServiceError: MLflow does not answer.
    """
    client = MlflowClient(tracking_uri)
    step, logged = int(report.as_of.timestamp()), int(wall_seconds() * 1000)
    try:
        found = client.get_experiment_by_name(MONITORING_EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(MONITORING_EXPERIMENT)
        run = client.create_run(experiment, run_name=page.stem)
        identity = run.info.run_id
        # In one request: forty would take longer than the rest of a look, here and in the server.
        client.log_batch(
            identity,
            metrics=[Metric(name, value, logged, step) for name, value in report_figures(report).items()],
            tags=[RunTag("level", report.level), RunTag("verdict", report.verdict)],
        )
        client.log_artifact(identity, str(page))
        client.log_artifact(identity, str(page.with_suffix(".json")))
        client.set_terminated(identity)
    except MlflowException as error:
        # The library's message goes on for lines about its retries.
        reason = str(error).split(" failed with", maxsplit=1)[0][:120]
        raise ServiceError(f"MLflow at {tracking_uri} did not take the figures ({reason})") from error
    return str(identity)


def report_figures(report: MonitoringReport) -> dict[str, float]:
    """Every figure by a name that MLflow accepts."""
    found: dict[str, float] = {}
    for case in report.use_cases:
        found[f"{case.use_case}/drifted_columns"] = len(case.drifted)
        found[f"{case.use_case}/judged_columns"] = case.judged
        for column in (column for group in case.groups for column in group.columns):
            if column.psi is not None:
                found[f"{case.use_case}/psi/{column.column}"] = column.psi
        judged = [day for day in case.performance.days if day.enough]
        newest = max(judged, key=lambda figures: figures.day).metrics if judged else {}
        found |= {f"{case.use_case}/{name.replace('@', '_at_')}": value for name, value in newest.items()}
    return found
