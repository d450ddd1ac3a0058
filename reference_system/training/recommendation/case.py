"""The recommendation case: from the lake to a judged ranker with its catalogue.

In: the lake, a moment, the point-in-time join. Out: what selection and the bundle need.
Invariant: the ranker is judged on tables as of the start of the test window. The bundle's tables are data, not
learned parameters: they are made by the same function as of the moment of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reference_system.errors import TrainingError
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.point_in_time import Join
from reference_system.training.recommendation.evaluation import PageEvaluator
from reference_system.training.recommendation.logged_pages import LoggedPages, logged_pages
from reference_system.training.recommendation.page_cases import page_cases
from reference_system.training.recommendation.training_set import impression_rows
from reference_system.training.recommendation.video_tables import VideoTables, read_videos, video_tables
from reference_system.training.selection import SelectionSpec
from reference_system.training.temporal_split import TemporalSplit, fresh_split, temporal_split
from reference_system.use_cases.recommendation import model
from reference_system.use_cases.recommendation.labels import ATTRIBUTION

RANKER_SELECTION = SelectionSpec(
    candidates=model.CANDIDATES,
    baselines=model.BASELINES,
    primary_metric=model.PRIMARY_METRIC,
    inputs=model.SIGNATURE,
)
FRESH_TRAIN_DAYS, FRESH_TEST_DAYS = 10, 1
# Bounds that keep a training within seconds on two cores, however large the world is.
TRAIN_ROWS, TEST_ROWS, CASES, LOGGED_PAGES = 100_000, 20_000, 1_500, 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationCase:
    """The rows to learn from, the evaluator, and the tables that a bundle will hold.

    `logged` are pages of the test window that were drawn by chance, to tell what a ranker's pages would bring.
    """

    split: TemporalSplit
    train: LabelledRows
    evaluator: PageEvaluator
    logged: LoggedPages
    tables: VideoTables
    # Labels are mature after a day: no training needs a second evaluator.
    mature: None = None


def recommendation_split(as_of: datetime) -> TemporalSplit:
    """Where rankers learn and are judged as of a moment."""
    return temporal_split(as_of, train_days=model.TRAIN_DAYS, test_days=model.TEST_DAYS, label_delay=ATTRIBUTION)


def fresh_recommendation_split(as_of: datetime, until: datetime) -> TemporalSplit:
    """Where rankers learn and are judged after an alarm; features are known up to `until`.

    A shorter window that ends later. Its labels are mature after a day, so it needs no held-out viewers.
    """
    return fresh_split(
        as_of, until=until, train_days=FRESH_TRAIN_DAYS, test_days=FRESH_TEST_DAYS, maturity=ATTRIBUTION
    )


def prepare_recommendation(lake: Path, split: TemporalSplit, join: Join, *, seed: int) -> RecommendationCase:
    """Read both windows and make the tables.

    Raises:
        TrainingError: if one of them cannot be used, or the catalogue does not fill a page.
    """
    videos = read_videos(lake, split.test.end)
    if len(videos) < model.PAGE_LENGTH:
        raise TrainingError(
            f"the catalogue has {len(videos)} videos and a page {model.PAGE_LENGTH}", next_command="workbook status"
        )
    test = impression_rows(lake, videos, split.test, join, most=TEST_ROWS, seed=seed, what="test")
    train = impression_rows(lake, videos, split.train, join, most=TRAIN_ROWS, seed=seed, what="training")
    known = video_tables(lake, split.test.start)
    cases = page_cases(lake, split.test, videos, known, join, most=CASES, seed=seed)
    evaluator = PageEvaluator(rows=test, cases=cases, categories=videos.categories.tolist())
    logged = logged_pages(lake, split.test, videos, known, join, most=LOGGED_PAGES, seed=seed)
    return RecommendationCase(
        split=split, train=train, evaluator=evaluator, logged=logged, tables=video_tables(lake, split.as_of)
    )
