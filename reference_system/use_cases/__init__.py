"""The use cases: what differs between them, in the same five files each.

`events.py` (topics), `features.py` (declarations and request features), `labels.py` (when an outcome is known),
`model.py` (candidates and their metrics) and `policy.py` (from score to decision).
Invariant: nothing is imported here but numpy, msgspec and the shared foundation; the two cases never import each
other.
"""

from reference_system.events import PREDICTIONS, REPARTITION_TOPIC, SHADOWS, Topic
from reference_system.use_cases.fraud import events as fraud_events
from reference_system.use_cases.fraud import features as fraud_features
from reference_system.use_cases.recommendation import events as recommendation_events
from reference_system.use_cases.recommendation import features as recommendation_features
from reference_system.windows import View

# Topics that the world produces; ratings are brought by people, predictions and exposures come from serving.
EVENT_TOPICS: tuple[Topic, ...] = (*fraud_events.TOPICS, *recommendation_events.TOPICS)
SERVING_TOPICS: tuple[Topic, ...] = (PREDICTIONS, SHADOWS, recommendation_events.EXPOSURES)
TOPICS: tuple[Topic, ...] = (*EVENT_TOPICS, recommendation_events.RATINGS, *SERVING_TOPICS)
# What the broker must have: events, refused bytes, and rows on their way between the tasks of ingestion.
BROKER_TOPICS = (*(name for topic in TOPICS for name in (topic.name, topic.dead_letter)), REPARTITION_TOPIC)
# What is read together: a Feast service each.
VIEWS_OF: dict[str, tuple[View, ...]] = {
    "fraud": fraud_features.VIEWS,
    "recommendation": recommendation_features.VIEWS,
    "ratings": recommendation_features.RATING_VIEWS,
}
VIEWS: tuple[View, ...] = tuple(view for views in VIEWS_OF.values() for view in views)
USE_CASES = ("fraud", "recommendation")


def topic_named(name: str) -> Topic:
    """The topic with that name.

    Raises:
        KeyError: if there is none.
    """
    return {topic.name: topic for topic in TOPICS}[name]
