"""The monitoring report: its record, its findings, and where it is published (page, Prometheus, MLflow)."""
