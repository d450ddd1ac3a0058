"""One Prometheus page, read: figures that other processes publish about themselves."""

from __future__ import annotations

from dataclasses import dataclass

from reference_system.stack.local_http import ask

Key = tuple[str, frozenset[tuple[str, str]]]
_OK = 200


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """Samples by name and labels."""

    samples: dict[Key, float]

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels, or `None`."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that carry these labels, whatever others they have; `None` if there are none."""
        wanted = frozenset(labels.items())
        found = [value for (sample, has), value in self.samples.items() if sample == name and wanted <= has]
        return sum(found) if found else None


def read_metrics(port: int) -> MetricsPage:
    """The page at `/metrics`.

    Raises:
        OSError: if it cannot be had, or is no Prometheus page.
    """
    from prometheus_client.parser import text_string_to_metric_families

    answer = ask(port, "/metrics")
    if answer.status != _OK:
        raise OSError(f"/metrics on port {port} answers {answer.status}")
    try:
        families = list(text_string_to_metric_families(answer.body.decode("utf-8")))
    except ValueError as error:
        raise OSError(f"/metrics on port {port} is no Prometheus page") from error
    return MetricsPage(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
    )
