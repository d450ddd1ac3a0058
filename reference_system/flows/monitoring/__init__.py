"""Monitoring put together: what is watched of each use case, and what ingestion says of the events."""
