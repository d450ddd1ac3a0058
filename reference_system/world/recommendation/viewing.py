"""Viewer behaviour: viewers start a session, examine a page from the top, watch videos, open the next page or leave.

In: page requests and the pages that answered them. Out: watches, and the next requests.
Invariant: a viewer reacts to the page that was shown, regardless of the policy that chose it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_SECOND
from reference_system.settings import Settings
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.world.columns import (
    NO_VIDEO,
    WORLD_PAGE_LENGTH,
    FlagColumn,
    IdColumn,
    PageRequests,
    Pages,
    Watches,
)
from reference_system.world.randomness import Stream, generator
from reference_system.world.recommendation.catalogue import WorldCatalogue, make_catalogue
from reference_system.world.recommendation.page_policy import POLICY, draw_pages, inclusion
from reference_system.world.recommendation.viewers import WorldViewers, make_viewers
from reference_system.world.rhythm import VIEWING_RHYTHM
from reference_system.world.scenarios import Scenario

SESSIONS_PER_VIEWER_DAY = 0.108
# A viewer continues more often after a watch; few sessions reach the bound on their pages.
CONTINUE_AFTER_NOTHING, _CONTINUE_AFTER_WATCHING = 0.52, 0.63
MAX_PAGES = 12
OUTSIDE_LINK = "outside_link"
_OUTSIDE_SHARE = 0.5  # of sessions while a video goes viral
_VIRAL_DEMAND = 0.1  # of the total demand
# Examination falls with the position as 1 / position^0.7; click models find exponents between 0.5 and 1.
_EXAMINATION = np.arange(1, WORLD_PAGE_LENGTH + 1) ** -0.7
_INTEREST, _TASTE_WEIGHT, _QUALITY_WEIGHT, _FASHION_WEIGHT = -0.9, 1.15, 0.9, 0.35
_LEAST_TASTE = 0.02
_BROWSING_SECONDS = 12.0
# The stored decimals of a propensity: its last digits depend on the processor.
_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Viewing:
    """The platform: its viewers and its catalogue."""

    seed: int
    viewers: WorldViewers
    catalogue: WorldCatalogue

    def grow(self, day: int) -> None:
        """Add the viewers and videos of every day up to `day`."""
        self.viewers.grow(day)
        self.catalogue.grow(day)

    def sessions(self, start: int, end: int) -> PageRequests:
        """The sessions that begin in [start, end): requests for their first pages."""
        rng = generator(self.seed, Stream.SESSIONS, start)
        expected = len(self.viewers.activity) * SESSIONS_PER_VIEWER_DAY * VIEWING_RHYTHM.mass(start, end)
        times = VIEWING_RHYTHM.moments(rng, int(rng.poisson(expected)), start, end)
        return PageRequests(
            times=times,
            viewers=self.viewers.draw(rng, len(times)),
            sessions=times,
            numbers=np.zeros(len(times), np.int64),
        )

    def popular_pages(self, requests: PageRequests, viral: int | None = None) -> Pages:
        """Pages of the popularity policy as of the first of the requests."""
        moment = int(requests.times[0])
        demand, ages = self.catalogue.demand(moment)
        if viral is not None:
            demand[viral] = max(demand[viral], demand.sum() * _VIRAL_DEMAND)
        probabilities = inclusion(demand, ages)
        videos = draw_pages(generator(self.seed, Stream.PAGES, moment), probabilities, len(requests))
        return pages_of(requests, videos, np.round(probabilities[videos], _DECIMALS), POLICY)

    def from_outside(self, requests: PageRequests, viral: int) -> tuple[FlagColumn, Pages]:
        """Which sessions begin with a link to the viral video, and their pages of that one video."""
        rng = generator(self.seed, Stream.PAGES, int(requests.times[0]), viral)
        followed = (requests.numbers == 0) & (rng.random(len(requests)) < _OUTSIDE_SHARE)
        linked = requests.take(followed)
        videos = np.full((len(linked), WORLD_PAGE_LENGTH), NO_VIDEO)
        videos[:, 0] = viral
        return followed, pages_of(linked, videos, np.where(videos == viral, 1.0, 0.0), OUTSIDE_LINK)

    def respond(self, pages: Pages, scenarios: dict[Scenario, int]) -> tuple[Watches, PageRequests]:
        """The watches of these pages, and the requests for the next pages."""
        rng = generator(self.seed, Stream.RESPONSES, int(pages.times[0]), len(pages))
        shown = pages.videos != NO_VIDEO
        interest = self._interest(pages, scenarios)
        examined = rng.random(shown.shape) < np.where(pages.policies == OUTSIDE_LINK, 1.0, 0.0)[:, None] + _EXAMINATION
        chosen = shown & examined & (rng.random(shown.shape) < 1.0 / (1.0 + np.exp(-interest)))
        durations = self.catalogue.durations[pages.videos]
        # Liked videos are seen to the end more often, long ones less.
        pull = 1.2 + 0.5 * interest - 0.45 * np.log(durations / 360.0) + rng.standard_normal(shown.shape)
        completions = np.round(1.0 / (1.0 + np.exp(-pull)), 4)
        seconds = np.where(chosen, np.round(completions * durations, 1), 0.0)
        pauses = rng.exponential(_BROWSING_SECONDS, shown.shape) + 1.0
        # Watches of a page are sequential: each ends its pause and its length after the previous one.
        ends = pages.times[:, None] + (np.cumsum(seconds + chosen * pauses, axis=1) * MICROS_PER_SECOND).astype(
            np.int64
        )
        row, column = np.nonzero(chosen)
        watches = Watches(
            times=ends[row, column],
            impressions=pages.impressions[row],
            viewers=pages.viewers[row],
            videos=pages.videos[row, column],
            positions=column + 1,
            seconds=seconds[row, column],
            completions=completions[row, column],
        )
        go_on = rng.random(len(pages)) < np.where(chosen.any(axis=1), _CONTINUE_AFTER_WATCHING, CONTINUE_AFTER_NOTHING)
        gaps = (rng.exponential(_BROWSING_SECONDS, len(pages)) + 2.0) * MICROS_PER_SECOND
        following = PageRequests(
            times=ends[:, -1] + gaps.astype(np.int64),
            viewers=pages.viewers,
            sessions=pages.sessions,
            numbers=pages.numbers + 1,
        )
        return watches.sorted(), following.take(go_on & (following.numbers < MAX_PAGES)).sorted()

    def viral_video(self, scenarios: dict[Scenario, int]) -> int | None:
        """The video that goes viral: the newest one when the scenario began."""
        begun = scenarios.get(Scenario.VIRAL_VIDEO)
        return None if begun is None else self.catalogue.known(begun) - 1

    def _interest(self, pages: Pages, scenarios: dict[Scenario, int]) -> Floats:
        """The log-odds that a viewer watches an examined video; shape (pages, PAGE_LENGTH)."""
        tastes = self.viewers.tastes(pages.viewers, pages.times, jumped=Scenario.TASTE_SHIFT in scenarios)
        liking = np.take_along_axis(tastes, self.catalogue.categories[pages.videos], axis=1)
        viral = self.viral_video(scenarios)
        qualities = self.catalogue.qualities_at(viral)[pages.videos]
        fashion = np.log(self.catalogue.fashion(int(pages.times[0]))[pages.videos])
        linked = np.where((pages.policies == OUTSIDE_LINK)[:, None], 3.0, 0.0)
        match = np.log(np.maximum(liking, _LEAST_TASTE) * len(CATEGORIES))
        interest: Floats = (
            _INTEREST + _TASTE_WEIGHT * match + _QUALITY_WEIGHT * qualities + _FASHION_WEIGHT * fashion + linked
        )
        return interest


def make_viewing(settings: Settings) -> Viewing:
    """The platform on the day before the history."""
    return Viewing(settings.seed, make_viewers(settings), make_catalogue(settings))


def pages_of(requests: PageRequests, videos: IdColumn, propensities: Floats, policy: str) -> Pages:
    """Pages that the world chose; the impression's id has the session and the page's number."""
    sessions, numbers = requests.sessions.astype(np.str_), requests.numbers.astype(np.str_)
    return Pages(
        times=requests.times,
        viewers=requests.viewers,
        sessions=requests.sessions,
        numbers=requests.numbers,
        impressions=np.strings.add(np.strings.add("i", sessions), np.strings.add("-", numbers)).astype("U64"),
        videos=videos,
        propensities=propensities,
        policies=np.full(len(requests), policy, "U64"),
    )
