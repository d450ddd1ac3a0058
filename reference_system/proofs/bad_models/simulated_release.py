"""Simulated release: both models score the days after a training, and the guardrails decide.

In: a world, champion and challenger, the start of the release. Out: the step that ends it.
Invariant: as in the live system, the controller runs every six hours of event time, on the labels reported by then.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from time import thread_time

import numpy as np

from reference_system.arrays import Floats
from reference_system.flows.training.gate_evidence import latency
from reference_system.proofs.bad_models.fraud_fixture import CardWorld
from reference_system.registry.bundles.bundle import Bundle
from reference_system.registry.release import releases
from reference_system.registry.release.evidence import PaymentPairs, ScorePairs, compare_payments
from reference_system.registry.release.guardrails import Evidence, Policy
from reference_system.registry.release.releases import Release, ReleaseStep
from reference_system.training.fraud.training_set import fraud_rows
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.temporal_split import Span

_LOOK = timedelta(hours=6)


def released(
    world: CardWorld, champion: Bundle, challenger: Bundle, policy: Policy, *, since: datetime
) -> ReleaseStep:
    """Run the controller until the challenger is champion or rolled back."""
    release = Release(
        use_case="fraud",
        version=challenger.manifest.model_version,
        champion=champion.manifest.model_version,
        stage="shadow",
        salt="simulated",
        started=since,
        since=since,
    )
    now = since
    while True:
        now += _LOOK
        found = _evidence(world, champion, challenger, policy.share, Span(start=since, end=now))
        step = releases.next_step(release, found, now, policy)
        if step.to == "canary":
            release = Release(
                use_case="fraud",
                version=release.version,
                champion=release.champion,
                stage="canary",
                salt=release.salt,
                started=release.started,
                since=now,
            )
        elif step.to != "stay":
            return step


def _evidence(world: CardWorld, champion: Bundle, challenger: Bundle, share: float, span: Span) -> Evidence:
    rows = fraud_rows(world.lake, span, world.join, what="release", known=span.end, both_classes=False)
    ours, theirs = challenger.scorer.score(rows.inputs), champion.scorer.score(rows.inputs)
    pairs = PaymentPairs(
        said=ScorePairs(
            scores=ours,
            champion_scores=theirs,
            scoring_ms=_milliseconds(challenger, rows),
            champion_scoring_ms=_milliseconds(champion, rows),
        ),
        alerts=ours >= _review(challenger),
        champion_alerts=theirs >= _review(champion),
        reported=rows.labels > 0,
    )
    return Evidence(
        champion=champion.manifest.model_version,
        serving=True,
        pairs=len(rows),
        canary_answers=int(share * len(rows)),
        comparison=compare_payments(pairs, seed=1),
    )


def _review(bundle: Bundle) -> float:
    thresholds = bundle.manifest.thresholds
    return 1.0 if thresholds is None else thresholds.review


def _milliseconds(bundle: Bundle, rows: LabelledRows) -> Floats:
    """The p99 latency of one row, used for every request."""
    return np.array([latency(bundle.scorer, rows.inputs, rows=1, timer=thread_time) / 1_000.0])
