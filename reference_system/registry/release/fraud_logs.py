"""The payments that both fraud models scored, from the logs of a release."""

from __future__ import annotations

from reference_system.registry.release.duckdb_logs import ReleaseLogs, flags_of, numbers_of
from reference_system.registry.release.fraud_evidence import PaymentPairs
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS
from reference_system.use_cases.fraud.labels import DISPUTE_FIELDS, disputes_query

_PAYMENTS = """
    SELECT scores[1] AS score, champion_scores[1] AS champion_score, decision <> 'approve' AS alert,
        champion_decision <> 'approve' AS champion_alert, request_id IN (
            SELECT transaction_id FROM ({disputes}) WHERE withdrawn_timestamp IS NULL
        ) AS reported
    FROM pairs ORDER BY request_id
"""


def payment_pairs(logs: ReleaseLogs) -> PaymentPairs:
    """The pairs as payments."""
    # A dispute's event time is its payment's.
    for name, topic in (("chargebacks", CHARGEBACKS), ("reversals", REVERSALS)):
        logs.register(name, topic, start=logs.start, columns=DISPUTE_FIELDS)
    found = logs.ask(_PAYMENTS.format(disputes=disputes_query(logs.as_of))).to_arrow_table()
    return PaymentPairs(
        said=logs.said(numbers_of(found, "score"), numbers_of(found, "champion_score")),
        alerts=flags_of(found, "alert"),
        champion_alerts=flags_of(found, "champion_alert"),
        reported=flags_of(found, "reported"),
    )
