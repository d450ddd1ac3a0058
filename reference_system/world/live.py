"""The live world, which owns the clock.

In: a restored world, the broker, the real-time service. Out: the events up to now at every tick, then a checkpoint.
Invariant: the clock never jumps. A tick advances to the time that every reader's clock shows, which is at most
`GRACE_SECONDS` past the last heartbeat; so after a pause (a stop, a suspended machine, a broker that is down while the
tick waits for it) time continues where it stopped.

Payments are scored before they are published. A payment that serving blocks is published, too: declined payments have
no labels, and the effect of that on training is a separate exercise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Micros
from reference_system.clock import Heartbeat, SimulatedClock, wall_seconds, write_heartbeat
from reference_system.errors import StateError
from reference_system.event_time import micros, moment_of
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.world import checkpoint
from reference_system.world.columns import NO_VIDEO, WORLD_PAGE_LENGTH, PageRequests, Pages
from reference_system.world.http_serving import PageAnswer, ServingClient
from reference_system.world.kafka_publisher import KafkaPublisher, Message
from reference_system.world.prometheus_metrics import WorldMetrics
from reference_system.world.records import LONGEST_IMPRESSION_ID, index_of, record_fields, records_of
from reference_system.world.scenarios import SCENARIOS, active_at, read_runs
from reference_system.world.simulation import LIVE_SLICE, Happened, World

# One session in ten is explored: its pages come from the popularity policy, which shows every video with a positive
# probability. Without them no later model could be evaluated on live pages: the service shows only its top videos.
EXPLORED_SESSIONS = 10


@dataclass(slots=True, kw_only=True)
class LiveWorld:
    """One running world; `released` is the time up to which its events are published."""

    settings: Settings
    world: World
    released: int
    publisher: KafkaPublisher
    serving: ServingClient
    metrics: WorldMetrics

    @property
    def paths(self) -> StatePaths:
        """The paths of the clock, the checkpoint and the scenarios."""
        return StatePaths(self.settings.state_dir)

    def start_clock(self) -> None:
        """Continue time where it stopped; without a readable heartbeat, at the checkpoint."""
        try:
            stood_at = micros(SimulatedClock(self.paths.clock).now())
        except StateError:
            stood_at = self.released
        self._beat(max(stood_at, self.released), self.settings.speed)

    def stop_clock(self) -> None:
        """Stop time."""
        self._beat(micros(SimulatedClock(self.paths.clock).now()), 0.0)

    def tick(self, keep_on: Callable[[str], bool]) -> bool:
        """Publish everything up to now.

        The heartbeat is written first, so that no reader receives an event that is later than its clock.

        Args:
            keep_on: called with the reason why events could not be published; returns whether to try again.

        Returns:
            Whether the tick is done; if not, the next one, of this process or another, repeats it.
        """
        now = micros(SimulatedClock(self.paths.clock).now())
        self._beat(now, self.settings.speed)
        runs = read_runs(self.paths.world / SCENARIOS)
        self.world.generate(now, LIVE_SLICE, runs)
        payments, chargebacks, publications, reversals = self.world.release_cards(now)
        if len(payments):
            self.serving.score(payments)
        viral = self.world.viewing.viral_video(active_at(runs, now))
        pages, watches = self.world.release_viewing(now, lambda asked: self._pages(asked, viral), runs)
        messages = self._messages(
            Happened(
                payments=payments,
                chargebacks=chargebacks,
                reversals=reversals,
                publications=publications,
                pages=pages,
                watches=watches,
            )
        )
        if not self.publisher.publish(messages, keep_on=keep_on):
            return False
        self.released = now
        checkpoint.save(self.paths.world, self.settings, self.world, self.released)
        self.metrics.show(Counter(topic.name for topic, _ in messages), moment_of(now))
        return True

    def _beat(self, now: int, speed: float) -> None:
        write_heartbeat(
            self.paths.clock, Heartbeat(event_time=moment_of(now), wall_seconds=wall_seconds(), speed=speed)
        )

    def _messages(self, happened: Happened) -> list[Message]:
        """All events, in the order in which they become known."""
        due: dict[str, Micros] = {
            "transactions": happened.payments.times,
            "chargebacks": happened.chargebacks.times,
            "chargeback-reversals": happened.reversals.times,
            "videos": happened.publications.times,
            "impressions": happened.pages.times,
            "watches": happened.watches.times,
        }
        messages: list[tuple[int, Message]] = []
        for topic, fields in record_fields(happened, self.world.viewing.catalogue).items():
            records = records_of(topic, fields)
            messages += zip(due[topic.name].tolist(), [(topic, record) for record in records], strict=True)
        return [message for _, message in sorted(messages, key=lambda pair: pair[0])]

    def _pages(self, requests: PageRequests, viral: int | None) -> Pages:
        """Pages of the service; of the popularity policy for explored sessions and where the service gave none."""
        explored = requests.sessions % EXPLORED_SESSIONS == 0
        asked = iter(self.serving.recommend(requests.take(~explored)))
        answers = [None if skip else next(asked) for skip in explored]
        known = self.world.viewing.catalogue.known(int(requests.times[-1]))
        rows = [_shown(answer, known) for answer in answers]
        missing = np.array([row is None for row in rows])
        parts = []
        if missing.any():
            parts.append(self.world.viewing.popular_pages(requests.take(missing), viral))
        if not missing.all():
            parts.append(
                _served(
                    requests.take(~missing),
                    [row for row in rows if row is not None],
                    [answer for answer, row in zip(answers, rows, strict=True) if answer and row is not None],
                )
            )
        return Pages.joined(parts).sorted()


def _shown(answer: PageAnswer | None, known: int) -> list[tuple[int, float]] | None:
    """Videos and propensities of an answered page, padded; `None` if there is none or no video is of this world."""
    if answer is None or len(answer.prediction_id) > LONGEST_IMPRESSION_ID:
        return None
    places = [(index_of(item.video_id), item.propensity) for item in answer.items]
    shown = [(video, propensity) for video, propensity in places if 0 <= video < known][:WORLD_PAGE_LENGTH]
    return shown + [(NO_VIDEO, 0.0)] * (WORLD_PAGE_LENGTH - len(shown)) if shown else None


def _served(
    requests: PageRequests, rows: Sequence[Sequence[tuple[int, float]]], answers: Sequence[PageAnswer]
) -> Pages:
    """Pages as the service chose them, with the propensities that it reported."""
    return Pages(
        times=requests.times,
        viewers=requests.viewers,
        sessions=requests.sessions,
        numbers=requests.numbers,
        impressions=np.array([answer.prediction_id for answer in answers], "U64"),
        videos=np.array([[video for video, _ in row] for row in rows]),
        propensities=np.array([[propensity for _, propensity in row] for row in rows]),
        policies=np.array([answer.model_version for answer in answers], "U64"),
    )
