"""What Feast knows: entities, sources, views and services, derived from the declarations of the use cases.

In: the declarations and the state directory. Out: Feast objects.
Invariant: every windowed view has an offline view with its features, and every view an online view `<name>_state`.

Nothing here repeats a declaration: a new view of a use case appears in Feast with the next apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Bytes, Float64, String

from reference_system.paths import StatePaths
from reference_system.use_cases import VIEWS_OF
from reference_system.windows import View, WindowedView

# The join key of a view that has one state for everyone.
EVERYONE_KEY = "everyone"
STATE = "state"
_MICRO = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeastObjects:
    """Everything that `apply` writes to the registry."""

    entities: tuple[Entity, ...]
    views: tuple[FeatureView, ...]
    services: tuple[FeatureService, ...]


def join_key(view: View) -> str:
    """The name of the column that holds the view's entity key."""
    return view.entity or EVERYONE_KEY


def state_name(view: View) -> str:
    """The name of the view's online view."""
    return f"{view.name}_state"


def feast_objects(paths: StatePaths) -> FeastObjects:
    """The Feast objects over the feature tables of one state directory."""
    declared = [view for views in VIEWS_OF.values() for view in views]
    keys = sorted({join_key(view) for view in declared})
    entities = {key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for key in keys}
    offline = {
        view.name: _offline_view(view, entities[join_key(view)], paths)
        for view in declared
        if isinstance(view, WindowedView)
    }
    online = {view.name: _online_view(view, entities[join_key(view)], paths) for view in declared}
    services = [
        service for use_case, views in VIEWS_OF.items() for service in _services(use_case, views, offline, online)
    ]
    return FeastObjects(
        entities=tuple(entities.values()),
        views=(*offline.values(), *online.values()),
        services=tuple(services),
    )


def _offline_view(view: WindowedView, entity: Entity, paths: StatePaths) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=[entity],
        # A value holds at its own moment, or from its tile end to the next: older rows are no answer and expire.
        ttl=(view.tile or 2 * _MICRO) - _MICRO,
        schema=[
            Field(name=join_key(view), dtype=String),
            *(Field(name=name, dtype=Float64) for name in view.features),
        ],
        source=_table(view.name, paths),
        online=False,
    )


def _online_view(view: View, entity: Entity, paths: StatePaths) -> FeatureView:
    name = state_name(view)
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[_key(view), Field(name=STATE, dtype=Bytes)],
        source=PushSource(name=f"{name}_push", batch_source=_table(name, paths)),
        online=True,
    )


def _key(view: View) -> Field:
    return Field(name=join_key(view), dtype=String)


def _table(name: str, paths: StatePaths) -> FileSource:
    return FileSource(
        name=f"{name}_table",
        path=str(paths.feature_tables / name / "*.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )


def _services(
    use_case: str, views: Sequence[View], offline: dict[str, FeatureView], online: dict[str, FeatureView]
) -> list[FeatureService]:
    return [
        FeatureService(name=f"{use_case}_v1", features=[offline[view.name] for view in views if view.name in offline]),
        FeatureService(name=f"{use_case}_v1_online", features=[online[view.name] for view in views]),
    ]
