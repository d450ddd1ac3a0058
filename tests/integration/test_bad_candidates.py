"""Planted bad candidates, in a short form: each kind once, in a small world, by the real training and gate."""

from __future__ import annotations

from reference_system.proofs.bad_candidate_plants import PLANTS
from reference_system.proofs.bad_candidates import bad_candidates


def test_every_planted_fault_is_stopped_and_sound_candidates_are_promoted():
    report = bad_candidates(times=len(PLANTS), seed=1, progress=lambda *_: None, customers=300)
    through = [one for one in report.candidates if one.planted != "none" and one.outcome == "promoted"]
    assert through == []
    assert report.stopped == len(PLANTS)
    assert report.promoted == report.controls == 2
    assert report.passed
    reasons = {one.planted: one.reason for one in report.candidates}
    assert reasons["stale data"].startswith("staleness: its newest row is 37 days old")
    assert reasons["slow"].startswith("latency")
    assert reasons["not calibrated"].startswith("calibration")
    assert reasons["an input that knows the outcome"].startswith("leak")
    assert reasons["features in another unit than served"].startswith("parity")
    assert "its inputs are not the service's" in reasons["wrong signature"]
