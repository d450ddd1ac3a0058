"""The answers of the prediction log that outcomes are joined to, in SQL."""

from __future__ import annotations

from datetime import timedelta

# An answer may be logged twice (the caller asked again): the first one is what was acted upon.
ANSWERS = """
    SELECT * FROM predictions
    WHERE use_case = '{use_case}' AND epoch_us(created_timestamp) <= {as_of}
    QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY created_timestamp, prediction_id) = 1
"""
# A request and its event may lie on two sides of midnight.
SLACK = timedelta(hours=1)
