"""Planted bad candidates, in a short form: each kind once, in a small world, by the real training and gate."""

from __future__ import annotations

import pytest

from reference_system.proofs.bad_models import fraud_candidates as drill
from reference_system.proofs.bad_models.fraud_candidates import bad_candidates
from reference_system.proofs.bad_models.fraud_planted_faults import PLANTS


@pytest.fixture
def verdicts(monkeypatch):
    """What the gate says of each candidate that reaches it, in turn."""
    given, judged_scores = [], drill.judged_scores

    def told(*arguments, **more):
        given.append(judged_scores(*arguments, **more))
        return given[-1]

    monkeypatch.setattr(drill, "judged_scores", told)
    return given


def test_every_planted_fault_is_stopped_and_sound_candidates_are_promoted(verdicts):
    report = bad_candidates(times=len(PLANTS), seed=1, progress=lambda *_: None, customers=300)
    through = [one for one in report.candidates if one.planted != "none" and one.outcome == "promoted"]
    assert through == []
    assert report.stopped == len(PLANTS)
    assert report.promoted == report.controls == 2
    assert report.passed
    # The last two are sound: compared with the champion they are better, or not worse than one that has grown old.
    known = (
        "better than the champion by +",
        "the champion has grown old: its training ends 28 days earlier; not worse",
    )
    assert [one.reasons[0].startswith(known) for one in verdicts[-2:]] == [True, True]
    reasons = {one.planted: one.reason for one in report.candidates}
    (stale,) = [
        check.reason
        for verdict in verdicts
        for check in verdict.checks
        if (check.name, check.answer) == ("staleness", "refuse")
    ]
    assert stale.startswith("its newest row is 37 days old")
    assert reasons["slow"].startswith("latency")
    assert reasons["not calibrated"].startswith("calibration")
    assert reasons["an input that knows the outcome"].startswith("leak")
    assert reasons["features in another unit than served"].startswith("parity")
    assert "its inputs are not the service's" in reasons["wrong signature"]
