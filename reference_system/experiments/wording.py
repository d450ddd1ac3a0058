"""Wording: states a report's result in a sentence.

In: a report's figures. Out: the result as a sentence (`verdict`), whether it may be used, and notes.
Invariant: with a sample ratio mismatch there is no result for the treatment.
"""

from __future__ import annotations

import msgspec

from reference_system.experiments.definition import Experiment
from reference_system.experiments.report import ArmResult, Effect, ExperimentReport, SampleRatio
from reference_system.experiments.sequential import FEWEST

UNITS = {
    "watches-per-page": "watches per page",
    "watch-rate": "watches per video shown",
    "watch-minutes": "minutes of watching per viewer and day",
}
# If the treatment fails, the other version answers on purpose; many such answers dilute the effect.
_FEW = 0.02


def pronounced(experiment: Experiment, report: ExperimentReport) -> ExperimentReport:
    """The report with `usable`, `verdict` and `notes`."""
    broken = report.sample_ratio is not None and report.sample_ratio.broken
    return msgspec.structs.replace(
        report,
        usable=not broken,
        verdict=_broken(report.sample_ratio) if broken else _verdict(experiment, report),
        notes=tuple(_notes(experiment, report)),
    )


def _broken(found: SampleRatio | None) -> str:
    shares = "" if found is None else f"{found.found_share:.1%} of the viewers, expected {found.expected_share:.1%}"
    return f"not to be used: sample ratio mismatch (treatment {shares}); find the cause first"


def _verdict(experiment: Experiment, report: ExperimentReport) -> str:
    arms = (report.treatment, report.control)
    if not any(arm.viewers for arm in arms):
        return "nobody has been exposed yet"
    if report.effect is not None:
        return _on(report.effect, UNITS[experiment.metric])
    if min(arm.analysed for arm in arms) < FEWEST:
        counts = f"treatment {report.treatment.analysed}, control {report.control.analysed}"
        return f"too early: {FEWEST} viewers of each arm must have completed their day ({counts})"
    return "every viewer did the same: there is nothing to compare"


def _on(effect: Effect, unit: str) -> str:
    bounds = f"between {effect.low:+.3g} and {effect.high:+.3g}"
    relative = "" if effect.relative is None else f"{effect.relative:+.1%}, "
    if effect.sure is not None:
        since = f"{effect.sure_since:%Y-%m-%d %H:%M}"
        return f"the treatment is {effect.sure}: {effect.value:+.3g} {unit} ({relative}{bounds}), sure since {since}"
    sentence = f"nothing is sure yet: the difference is {bounds} {unit}"
    if effect.viewers_needed is None:
        return f"{sentence}, and too small to be found by waiting"
    when = "" if effect.decided_around is None else f", around {effect.decided_around:%Y-%m-%d %H:%M}"
    return (
        f"{sentence}; if it is as large as it looks ({effect.value:+.3g}), about {_about(effect.viewers_needed)}"
        f" more viewers decide{when}"
    )


def _about(count: int) -> str:
    """Two digits: the estimated effect is not more precise."""
    return f"{int(float(f'{count:.1e}')):,}"


def _notes(experiment: Experiment, report: ExperimentReport) -> list[str]:
    notes = []
    if experiment.treatment == experiment.control:
        notes.append("an A/A test: both arms are the same version, and every effect is chance")
    for name, arm in (("treatment", report.treatment), ("control", report.control)):
        if arm.exposures and arm.other_version / arm.exposures > _FEW:
            notes.append(_diluted(name, arm))
    effect = report.effect
    if effect is not None and effect.sure is not None and effect.low <= 0.0 <= effect.high:
        notes.append("the current interval holds zero again: the effect may have changed since")
    if report.without_page:
        notes.append(f"{report.without_page:,} exposed viewers saw no page (trials, load tests): not analysed")
    return notes


def _diluted(name: str, arm: ArmResult) -> str:
    share = arm.other_version / arm.exposures
    return f"{share:.1%} of the {name}'s answers came from another version, not {arm.version}: the effect is diluted"
