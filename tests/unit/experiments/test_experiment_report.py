"""From exposed viewers to a verdict: every case that a reader can meet."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from reference_system.commands.experiment.report import text_plot
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.experiments import matplotlib_effect
from reference_system.experiments.analysis import analyse
from reference_system.experiments.definition import Experiment
from reference_system.experiments.viewers import Activity, ExperimentViewers, Exposed, expectation

START = datetime(2025, 4, 6, tzinfo=UTC)
EXPERIMENT = Experiment(
    name="try", treatment="2", control="1", share=0.5, metric="watches-per-page", salt="s", started=START
)


def scene(count, *, rates=(1.0, 1.0), share=0.5, pages=2.0, days=4.0, other=0.0, seed=6):  # noqa: PLR0913 - one knob a case
    """Viewers who come evenly over some days; the arms watch at these rates (control, treatment)."""
    rng = np.random.default_rng(seed)
    treated = rng.random(count) < share
    shown = np.full(count, pages)
    watches = rng.poisson(np.where(treated, rates[1], rates[0]) * shown).astype(float)
    first = micros(START) + np.linspace(0, days * MICROS_PER_DAY, count, dtype=np.int64)
    exposed = Exposed(
        ids=[f"v{number}" for number in range(count)],
        treated=treated,
        first=first,
        exposures=np.full(count, 2.0),
        other_version=np.full(count, 2.0 * other),
    )
    window = Activity(pages=shown, shown=10 * shown, watches=watches, minutes=5 * watches)
    before = Activity(pages=shown, shown=10 * shown, watches=shown, minutes=5 * shown)
    return exposed, ExperimentViewers(first=first, window=window, before=before)


def report(*args, experiment=EXPERIMENT, after_days=6.0, expected=None, **options):
    exposed, viewers = scene(*args, **options)
    return analyse(experiment, exposed, viewers, expected, as_of=START + timedelta(days=after_days))


def test_a_better_treatment_is_called_better_since_a_moment_that_stays():
    found = report(1_600, rates=(1.0, 1.4))

    assert found.effect.sure == "better"
    assert found.effect.low > 0
    assert found.effect.value == pytest.approx(0.4, abs=0.15)
    assert found.verdict.startswith("the treatment is better: ")
    assert f"sure since {found.effect.sure_since:%Y-%m-%d %H:%M}" in found.verdict
    earlier = report(1_600, rates=(1.0, 1.4), after_days=4.5)
    assert earlier.effect.sure_since == found.effect.sure_since


def test_a_worse_treatment_is_called_worse():
    assert report(1_600, rates=(1.4, 1.0)).effect.sure == "worse"


def test_a_small_difference_says_how_many_more_viewers_would_decide():
    found = report(500, rates=(1.0, 1.1), after_days=4.5)

    assert found.effect.sure is None
    assert found.effect.viewers_needed > 0
    assert found.effect.decided_around > found.as_of
    assert re.search(r"about [1-9][0-9]?[0,]* more viewers decide, around 2025-", found.verdict)


def test_a_viewer_counts_when_the_day_after_the_first_exposure_is_over():
    found = report(400, after_days=2.0)

    assert found.waiting == pytest.approx(300, abs=2)
    assert found.control.analysed + found.treatment.analysed + found.waiting == 400


def test_nobody_exposed_yet_is_said():
    found = report(0)

    assert found.verdict == "nobody has been exposed yet"
    assert found.effect is None
    assert found.sample_ratio is None


def test_few_viewers_are_too_few_and_their_numbers_are_said():
    found = report(60)

    assert found.verdict.startswith("too early: 50 viewers of each arm")
    assert str(found.treatment.analysed) in found.verdict
    assert found.usable


def test_an_empty_arm_makes_the_result_useless():
    found = report(400, share=0.0)

    assert not found.usable
    assert found.verdict.startswith("not to be used: sample ratio mismatch (treatment 0.0%")


def test_viewers_who_all_do_the_same_leave_nothing_to_compare():
    found = report(400, rates=(0.0, 0.0))

    assert found.effect is None
    assert found.verdict == "every viewer did the same: there is nothing to compare"


def test_arms_that_differ_in_size_void_even_a_clear_effect():
    found = report(1_600, rates=(1.0, 2.0), share=0.7)

    assert found.sample_ratio.broken
    assert "not to be used" in found.verdict


def test_pages_that_fail_to_arrive_in_one_arm_void_the_result():
    exposed, viewers = scene(1_600)
    lost = exposed.treated & (np.arange(1_600) % 3 == 0)
    viewers.window.pages[lost] = 0.0

    found = analyse(EXPERIMENT, exposed, viewers, None, as_of=START + timedelta(days=6))

    assert found.without_page == lost.sum()
    assert not found.usable


def test_answers_of_another_version_are_noted():
    assert any("came from another version" in note for note in report(400, other=0.5).notes)
    assert report(400).notes == ()


def test_the_same_version_twice_is_noted_as_an_a_a_test():
    twice = Experiment(name="aa", treatment="1", control="1", share=0.5, metric="watch-rate", salt="s", started=START)

    assert any("A/A" in note for note in report(400, experiment=twice).notes)


def test_a_share_of_a_tenth_is_compared_as_well():
    tenth = Experiment(
        name="tenth", treatment="2", control="1", share=0.1, metric="watches-per-page", salt="s", started=START
    )
    found = report(3_000, rates=(1.0, 1.6), share=0.1, experiment=tenth)

    assert found.usable
    assert found.effect.sure == "better"


def test_what_the_past_took_away_is_reported():
    _, before = scene(400, seed=9)
    before.before.watches[:] = np.random.default_rng(1).poisson(2.0, 400)
    found = report(1_600, expected=expectation("watches-per-page", before))

    assert found.variance_reduction == pytest.approx(0.0, abs=0.05)
    assert report(1_600).variance_reduction is None


def test_an_effect_that_fades_is_noted():
    exposed, viewers = scene(6_000, rates=(1.0, 1.0))
    early = np.arange(6_000) < 800
    viewers.window.watches[exposed.treated & early] += 1.0
    viewers.window.watches[exposed.treated & ~early] -= 0.19

    found = analyse(EXPERIMENT, exposed, viewers, None, as_of=START + timedelta(days=6))

    assert found.effect.sure == "better"
    assert found.effect.low <= 0 <= found.effect.high
    assert any("holds zero again" in note for note in found.notes)


def test_the_text_plot_shows_effect_band_and_zero_in_lines_of_one_width():
    *rows, _axis, days = text_plot(report(1_600, rates=(1.0, 1.4)).course)

    assert len({len(row) for row in rows}) == 1
    assert sum(row.count("●") for row in rows) >= 60
    assert any(row.lstrip().startswith("0 │") and "─" in row for row in rows)
    assert any("░" in row for row in rows)
    assert days.split()[0] == "2025-04-07"


def test_the_plot_is_a_picture_in_both_formats():
    found = report(1_600, rates=(1.0, 1.4))

    assert matplotlib_effect.draw_effect(EXPERIMENT, found, "png").startswith(b"\x89PNG")
    assert b"<svg" in matplotlib_effect.draw_effect(EXPERIMENT, found, "svg")
