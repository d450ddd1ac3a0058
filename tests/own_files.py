"""Files that a reader could bring: generated payments and ratings, and the request to import them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reference_system.dataset_import.importing import ImportRequest, import_file
from reference_system.dataset_import.report import ImportReport
from reference_system.settings import Settings

NOW = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)
CARD_COLUMNS = (
    "transaction_id=TRANSACTION_ID,event_timestamp=TX_DATETIME,customer_id=CUSTOMER_ID,terminal_id=TERMINAL_ID,"
    "amount=TX_AMOUNT,is_fraud=TX_FRAUD"
)
WEEK = timedelta(days=7)


def payments(count: int, *, seed: int = 1, days: int = 60, customers: int = 20, terminals: int = 15) -> pd.DataFrame:
    """A frame like the public card data: whole seconds, int32 ids, naive times, ordered by time."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, days * 86_400, count))
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(count, dtype=np.int64),
            "TX_DATETIME": pd.Timestamp("2024-11-04") + pd.to_timedelta(seconds, unit="s"),
            "CUSTOMER_ID": rng.integers(0, customers, count).astype(np.int32),
            "TERMINAL_ID": rng.integers(0, terminals, count).astype(np.int32),
            "TX_AMOUNT": rng.lognormal(3.0, 1.0, count).round(2),
            "TX_TIME_DAYS": (seconds // 86_400).astype(np.int32),
            "TX_FRAUD": (rng.uniform(size=count) < 0.05).astype(np.int32),
        }
    )


def ratings(count: int, *, seed: int = 1, days: int = 800, users: int = 12, items: int = 9) -> pd.DataFrame:
    """A frame like the public movie data: seconds since 1970, ordered by user."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user_id": np.sort(rng.integers(1, users, count)),
            "item_id": rng.integers(1, items, count),
            "rating": rng.integers(1, 11, count) / 2,
            "timestamp": 1_000_000_000 + rng.integers(0, days * 86_400, count),
        }
    )
    return frame.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)


def request_for(file: Path, **changes: Any) -> ImportRequest:
    """An import of payments in the columns of the public data."""
    given: dict[str, Any] = {
        "use_case": "fraud",
        "file": file,
        "columns": CARD_COLUMNS,
        "dataset": "cards",
        "label_delay": WEEK,
        "skip_bad_rows": False,
        **changes,
    }
    return ImportRequest(**given)


def request_for_ratings(file: Path, **changes: Any) -> ImportRequest:
    """An import of ratings in the columns of the public data."""
    given = {
        "use_case": "recommendation",
        "columns": "event_timestamp=timestamp",
        "dataset": "movies",
        "label_delay": None,
        **changes,
    }
    return request_for(file, **given)


def bring(settings: Settings, request: ImportRequest, *, now: datetime = NOW) -> ImportReport:
    """Import without a word."""
    return import_file(settings, request, now=now, progress=lambda _share, _text: None)


def written(frame: pd.DataFrame, path: Path) -> Path:
    """The frame as a file, Parquet or CSV by its name."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path
