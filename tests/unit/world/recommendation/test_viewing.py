from __future__ import annotations

import numpy as np
import pytest
from world_weeks import DAYS, Weeks, four_weeks

from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND
from reference_system.settings import Settings
from reference_system.use_cases.recommendation.labels import ATTRIBUTION
from reference_system.world.columns import WORLD_PAGE_LENGTH
from reference_system.world.recommendation.page_policy import draw_pages, inclusion
from reference_system.world.recommendation.viewing import (
    CONTINUE_AFTER_NOTHING,
    MAX_PAGES,
    SESSIONS_PER_VIEWER_DAY,
)


@pytest.fixture
def weeks() -> Weeks:
    return four_weeks()


@pytest.fixture
def default_settings() -> Settings:
    return Settings(_env_file=None)


def test_the_default_history_has_at_least_a_million_impressions(weeks: Weeks, default_settings: Settings):
    # Even if nobody ever found anything to watch: every page would be followed by another half of the time.
    pages = sum(CONTINUE_AFTER_NOTHING**number for number in range(MAX_PAGES))
    a_day = default_settings.viewers * SESSIONS_PER_VIEWER_DAY * pages * WORLD_PAGE_LENGTH
    assert a_day * default_settings.history_days >= 1_000_000
    assert len(weeks.happened.pages) * WORLD_PAGE_LENGTH / DAYS >= a_day


def test_pages_and_watches_come_at_the_stated_rates(weeks: Weeks):
    assert 1_150 <= len(weeks.happened.pages) / DAYS <= 1_500
    assert 1_000 <= len(weeks.happened.watches) / DAYS <= 1_500


def test_the_whole_world_makes_about_a_hundred_and_forty_events_a_second(weeks: Weeks, default_settings: Settings):
    happened = weeks.happened
    events = sum(len(kind) for kind in (happened.payments, happened.chargebacks, happened.pages, happened.watches))
    a_second = events / (DAYS * 86_400) * default_settings.speed
    assert 125 <= a_second <= 155


def test_popularity_is_skewed(weeks: Weeks):
    counts = np.sort(np.bincount(weeks.happened.watches.videos))[::-1]
    assert counts[: len(counts) // 20].sum() > 0.25 * counts.sum()
    assert counts[0] > 20 * np.median(counts)


def test_examination_falls_with_the_position(weeks: Weeks):
    rates = weeks.watched().mean(axis=0)
    assert rates[0] > 2.0 * rates[3] > 2.0 * rates[9] * 1.2
    assert np.corrcoef(rates, np.arange(1, WORLD_PAGE_LENGTH + 1) ** -0.7)[0, 1] > 0.99


def test_the_position_says_nothing_about_the_video(weeks: Weeks):
    quality = weeks.world.viewing.catalogue.qualities[weeks.happened.pages.videos]
    assert np.abs(quality.mean(axis=0) - quality.mean()).max() < 0.05


def test_viewers_watch_what_they_like_and_what_is_good(weeks: Weeks):
    pages, watched = weeks.happened.pages, weeks.watched()
    catalogue = weeks.world.viewing.catalogue
    tastes = weeks.world.viewing.viewers.tastes(pages.viewers, pages.times, jumped=False)
    liking = np.take_along_axis(tastes, catalogue.categories[pages.videos], axis=1)
    quality = catalogue.qualities[pages.videos]
    assert watched[liking > 0.3].mean() > 2.5 * watched[liking < 0.05].mean()
    assert watched[quality > 1].mean() > 1.8 * watched[quality < -1].mean()


def test_short_and_liked_videos_are_seen_to_the_end_more_often(weeks: Weeks):
    watches = weeks.happened.watches
    durations = weeks.world.viewing.catalogue.durations[watches.videos]
    assert watches.completions[durations < 180].mean() > watches.completions[durations > 900].mean() + 0.1
    assert watches.seconds == pytest.approx(watches.completions * durations, abs=0.06)
    assert ((watches.completions >= 0) & (watches.completions <= 1)).all()


def test_tastes_move_slowly(weeks: Weeks):
    viewers = np.arange(1_000)
    start = np.full(1_000, weeks.start)
    taste = weeks.world.viewing.viewers.tastes

    def agreement(days: int) -> float:
        moved = taste(viewers, start + days * MICROS_PER_DAY, jumped=False)
        return float((taste(viewers, start, jumped=False).argmax(axis=1) == moved.argmax(axis=1)).mean())

    assert agreement(1) > 0.95
    assert agreement(30) < 0.85


def test_videos_and_viewers_join_every_few_hours(weeks: Weeks, default_settings: Settings):
    catalogue = weeks.world.viewing.catalogue
    announced = weeks.happened.publications
    new = announced.take(announced.videos >= default_settings.videos)
    assert 6 <= len(new) / DAYS <= 14
    assert (new.times == catalogue.published[new.videos]).all()
    assert len(weeks.world.viewing.viewers.activity) > default_settings.viewers + DAYS
    assert (weeks.happened.pages.viewers >= default_settings.viewers).any()
    assert (weeks.happened.pages.videos >= default_settings.videos).any()


def test_every_video_is_announced_once_and_before_it_is_shown(weeks: Weeks):
    announced = weeks.happened.publications
    assert announced.videos.tolist() == list(range(len(announced)))
    assert (np.diff(announced.times) > 0).all()
    pages = weeks.happened.pages
    # The old catalogue is announced within the first seconds of history.
    shown_before = announced.times[pages.videos] > pages.times[:, None] + 10 * MICROS_PER_SECOND
    assert not shown_before.any()


def test_the_old_catalogue_is_announced_when_history_begins(weeks: Weeks, default_settings: Settings):
    old = weeks.happened.publications.take(slice(default_settings.videos))
    assert old.times[0] == weeks.start
    assert old.times[-1] < weeks.start + 10 * MICROS_PER_SECOND


def test_demand_fades_with_age(weeks: Weeks):
    catalogue = weeks.world.viewing.catalogue
    video = catalogue.known(weeks.start + MICROS_PER_DAY) - 1
    fresh = (
        catalogue.demand(weeks.start + MICROS_PER_DAY)[0]
        / catalogue.fashion(weeks.start + MICROS_PER_DAY)[: video + 1]
    )
    later = weeks.start + 25 * MICROS_PER_DAY
    old = catalogue.demand(later)[0] / catalogue.fashion(later)[: catalogue.known(later)]
    assert old[video] < 0.3 * fresh[video]


def test_waves_lift_a_few_videos_and_pass(weeks: Weeks):
    days = [weeks.start + n * MICROS_PER_DAY for n in range(3, DAYS)]
    lifts = np.array([weeks.world.viewing.catalogue.fashion(day) for day in days])
    assert 1 <= (lifts > 1.5).sum(axis=1).mean() <= 20
    assert lifts.max() > 5
    assert ((lifts > 1.5).sum(axis=0) <= 12).all()


def test_sessions_are_a_few_pages_of_one_viewer_in_order(weeks: Weeks):
    pages = weeks.happened.pages
    order = np.lexsort((pages.numbers, pages.sessions))
    sessions, numbers, times = pages.sessions[order], pages.numbers[order], pages.times[order]
    viewers = pages.viewers[order]
    same = sessions[1:] == sessions[:-1]
    assert (numbers[1:][same] == numbers[:-1][same] + 1).all()
    assert (times[1:][same] > times[:-1][same]).all()
    assert (viewers[1:][same] == viewers[:-1][same]).all()
    assert 2.0 < len(pages) / len(np.unique(sessions)) < 3.0
    assert numbers.max() < MAX_PAGES


def test_watches_follow_their_page_within_the_attribution_window(weeks: Weeks):
    pages, watches = weeks.happened.pages, weeks.happened.watches
    shown = dict(zip(pages.impressions.tolist(), pages.times.tolist(), strict=True))
    delays = watches.times - np.array([shown[impression] for impression in watches.impressions.tolist()])
    assert delays.min() > 0
    assert delays.max() < ATTRIBUTION.total_seconds() * MICROS_PER_SECOND


def test_a_page_shows_no_video_twice(weeks: Weeks):
    rows = np.sort(weeks.happened.pages.videos, axis=1)
    assert (np.diff(rows, axis=1) > 0).all()


def test_propensities_are_the_frequencies_with_which_videos_are_shown():
    rng = np.random.default_rng(3)
    probabilities = inclusion(rng.lognormal(0.0, 2.5, 60), rng.uniform(0, 30, 60))
    pages = draw_pages(rng, probabilities, 40_000)
    shown = np.bincount(pages.ravel(), minlength=60) / len(pages)
    assert probabilities.sum() == pytest.approx(WORLD_PAGE_LENGTH)
    assert (probabilities > 0).all()
    assert shown == pytest.approx(probabilities, abs=0.012)


def test_propensities_stay_probabilities_when_one_video_is_wanted_above_all():
    demand = np.ones(40)
    demand[5] = 1e6
    probabilities = inclusion(demand, np.full(40, 100.0))
    assert probabilities[5] == 1.0
    assert probabilities.sum() == pytest.approx(WORLD_PAGE_LENGTH)
    pages = draw_pages(np.random.default_rng(1), probabilities, 500)
    assert (pages == 5).any(axis=1).all()


def test_shown_propensities_are_those_of_the_policy(weeks: Weeks):
    pages = weeks.happened.pages
    assert set(pages.policies.tolist()) == {"popularity"}
    assert (pages.propensities > 0).all()
    assert (pages.propensities <= 1).all()
    # Horvitz-Thompson: weighting each impression by 1/propensity estimates the size of the catalogue.
    estimate = (1.0 / pages.propensities).sum(axis=1).mean()
    assert estimate == pytest.approx(len(weeks.world.viewing.catalogue.published), rel=0.1)
