"""Corrupted bundles: each kind of damage is refused, and the version before goes on serving."""

from __future__ import annotations

from reference_system.proofs.bad_models import corrupt_bundles


def test_each_kind_of_damage_is_refused_and_the_old_version_serves_on():
    kinds = len(corrupt_bundles.DAMAGES)
    shares = []
    report = corrupt_bundles.corrupt_bundles(times=2 * kinds, seed=3, progress=lambda share, _: shares.append(share))
    assert report.refused == dict.fromkeys(sorted(corrupt_bundles.DAMAGES), 2)
    assert (report.loaded, report.still_serving, report.problems) == (0, 2 * kinds, ())
    assert report.passed
    assert shares[-1] == 1.0


def test_a_verifier_that_lets_damage_through_fails_the_drill(monkeypatch):
    monkeypatch.setattr(corrupt_bundles, "DAMAGES", {"nothing": lambda _, __: None})
    report = corrupt_bundles.corrupt_bundles(times=2, seed=1, progress=lambda *_: None)
    assert report.loaded == 2
    assert not report.passed
