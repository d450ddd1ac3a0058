"""The report of an import: for a program the record, for a person a few lines.

In: what an import did. Out: lines.
Invariant: every row of the file is in exactly one of the counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from reference_system.dataset_import.bad_rows import BadRows
from reference_system.lake.datasets import DatasetManifest, ImportedFile


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one import did; `manifest` is the dataset's, after it."""

    dataset: str
    manifest: DatasetManifest
    source: ImportedFile
    bad_rows: tuple[BadRows, ...]
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        source, manifest = self.source, self.manifest
        if source.imported:
            events = ", ".join(f"{count:,} {topic}" for topic, count in manifest.events.items())
            yield f"{source.file} → {self.dataset}: {source.imported:,} of {source.rows:,} rows imported"
            yield f"the dataset now holds {events}, {manifest.first:%Y-%m-%d} to {manifest.last:%Y-%m-%d} (UTC)"
        else:
            yield f"{source.file} → {self.dataset}: nothing to add, the dataset holds every row already"
        counts = {
            "held before": source.held_before,
            "exact duplicates": source.duplicates,
            "refunds, left out": source.refunds,
            "bad rows, left out": source.bad,
        }
        for what, count in counts.items():
            if count:
                yield f"{what}: {count:,}"
        for bad in self.bad_rows:
            yield f"  {bad.rows:,} × {bad.reason} ({', '.join(bad.examples)})"
        yield from self.notes
