"""The pages that both rankers composed, from the logs of a release."""

from __future__ import annotations

from reference_system.registry.release.duckdb_logs import ReleaseLogs, flags_of, numbers_of
from reference_system.registry.release.recommendation_evidence import PagePairs
from reference_system.use_cases.recommendation.events import IMPRESSIONS, WATCHES
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION

_SCORES = "SELECT unnest(scores) AS score FROM pairs"
_CHAMPION_SCORES = "SELECT unnest(champion_scores) AS score FROM pairs"
_VARIETY = """
    SELECT (SELECT count(DISTINCT video) FROM (SELECT unnest(items) AS video FROM pairs)),
        (SELECT count(DISTINCT video) FROM (SELECT unnest(champion_items) AS video FROM pairs))
"""
# A page's policy is the version that chose it; a page counts from the moment on at which both versions chose pages.
_WATCHES = """
    WITH watched AS (
        SELECT impression_id, count(DISTINCT video_id) AS videos FROM watches
        WHERE completion >= {completion} AND epoch_us(event_timestamp) <= $as_of GROUP BY impression_id
    )
    SELECT avg(coalesce(watched.videos, 0)) AS watches, policy = $version AS canary
    FROM shown LEFT JOIN watched USING (impression_id)
    WHERE policy IN ($version, $champion) AND epoch_us(event_timestamp) BETWEEN $since AND $as_of
    GROUP BY viewer_id, policy ORDER BY viewer_id, policy
"""


def page_pairs(logs: ReleaseLogs) -> PagePairs:
    """The pairs as pages."""
    said = logs.said(*(numbers_of(logs.ask(query).to_arrow_table(), "score") for query in (_SCORES, _CHAMPION_SCORES)))
    videos, champion_videos = logs.one(_VARIETY)
    shown = ("impression_id", "viewer_id", "policy", "event_timestamp")
    watched = ("impression_id", "video_id", "completion", "event_timestamp")
    logs.register("shown", IMPRESSIONS, start=logs.since, columns=shown)
    logs.register("watches", WATCHES, start=logs.since, columns=watched)
    by_viewer = logs.ask(_WATCHES.format(completion=MIN_COMPLETION)).to_arrow_table()
    return PagePairs(
        said=said,
        videos=videos,
        champion_videos=champion_videos,
        watches=numbers_of(by_viewer, "watches"),
        in_canary=flags_of(by_viewer, "canary"),
    )
