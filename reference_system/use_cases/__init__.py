"""The use cases: what differs between them, in the same files each.

`events.py` (topics), `features.py` (declarations and request features), `labels.py` (when an outcome is known),
`model.py` (candidates and their metrics), `policy.py` (from score to decision) and `declaration.py`, which names what
the rest of the system reads.
Invariant: nothing is imported here but numpy, msgspec and the shared foundation; use cases never import each other.
"""

from importlib import import_module

from reference_system.events import PREDICTIONS, REPARTITION_TOPIC, SHADOWS, Topic
from reference_system.use_case import USE_CASES, UseCase
from reference_system.use_cases.declaration import Declaration
from reference_system.windows import View


def _declared(name: str) -> Declaration:
    found: Declaration = import_module(f"{__name__}.{name}.declaration").DECLARATION
    return found


DECLARATIONS: dict[UseCase, Declaration] = {name: _declared(name) for name in USE_CASES}

# Topics that the world produces; datasets bring their own, predictions and exposures come from serving.
EVENT_TOPICS: tuple[Topic, ...] = tuple(topic for case in DECLARATIONS.values() for topic in case.topics)
_DATASET_TOPICS = tuple(topic for case in DECLARATIONS.values() for topic in case.dataset_topics)
SERVING_TOPICS: tuple[Topic, ...] = (
    PREDICTIONS,
    SHADOWS,
    *(topic for case in DECLARATIONS.values() for topic in case.serving_topics),
)
TOPICS: tuple[Topic, ...] = (*EVENT_TOPICS, *_DATASET_TOPICS, *SERVING_TOPICS)
# What the broker must have: events, refused bytes, and rows on their way between the tasks of ingestion.
BROKER_TOPICS = (*(name for topic in TOPICS for name in (topic.name, topic.dead_letter)), REPARTITION_TOPIC)
# What is read together: a Feast service each.
VIEWS_OF: dict[str, tuple[View, ...]] = {case.name: case.views for case in DECLARATIONS.values()} | {
    service: views for case in DECLARATIONS.values() for service, views in case.dataset_views.items()
}
VIEWS: tuple[View, ...] = tuple(view for views in VIEWS_OF.values() for view in views)


def topic_named(name: str) -> Topic:
    """The topic with that name.

    Raises:
        KeyError: if there is none.
    """
    return {topic.name: topic for topic in TOPICS}[name]
