"""The offline store: Feast's DuckDB store with a native ASOF join for training sets.

In: an entity dataframe, feature views over Parquet. Out: Feast's own retrieval job, rows in the dataframe's order.
Invariant: the same rows as Feast's own join; what is not joined here goes to Feast's own, and the log says so.

Feast's own plan is an inequality join and a rank: for a moment it holds every pair of a row and an earlier value of
its entity. Two answers that Feast leaves open are fixed here: rows come back in their own order, and of two values of
one entity with equal event and created times the one that stands last in the table wins.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import ibis  # type: ignore[import-untyped] # the form in which Feast's writer takes a table
import pandas as pd
import pyarrow as pa
from feast import FeatureView, FileSource, OnDemandFeatureView, RepoConfig
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig, _write_data_source
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.saved_dataset import SavedDatasetStorage

from reference_system.errors import StateError
from reference_system.features.history.asof_join import Facts, asof_values, joining

_log = logging.getLogger(__name__)


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """What `offline_store:` in `feature_store.yaml` may say; Feast finds a store by its path, and that by its name."""

    type: Literal["reference_system.features.feast.asof_offline.AsofDuckDBOfflineStore"]


class AsofDuckDBOfflineStore(DuckDBOfflineStore):
    """Feast's DuckDB store; `get_historical_features` joins with `ASOF JOIN`."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0913, PLR0917 - Feast's own interface
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,  # noqa: FBT001, FBT002 - the same
        filter_by_created_timestamp: bool = False,  # noqa: FBT001, FBT002 - the same
        **period: object,
    ) -> RetrievalJob:
        """A job that joins the features to the entity dataframe.

        Raises:
            StateError: if there is no dataframe: neither SQL nor a period says at which moments to look.
        """
        if not isinstance(entity_df, pd.DataFrame) or period:
            raise StateError("training sets are joined to an entity dataframe: one row for each entity and moment")
        facts = [_facts(view, feature_refs, full_feature_names, filter_by_created_timestamp) for view in feature_views]
        reason = next(_left_to_feast(config, feature_views, facts, entity_df), None)
        if OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry):
            reason = "on-demand feature views"
        if reason is not None:
            _log.warning("Feast's own join, not the ASOF join, answers for %s: %s", ", ".join(feature_refs), reason)
            return DuckDBOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
            )
        return AsofRetrievalJob(config, facts, feature_refs, entity_df, full_feature_names=full_feature_names)


class AsofRetrievalJob(RetrievalJob):
    """A join that has been asked for; each `to_df` or `to_arrow` does it."""

    def __init__(
        self,
        config: RepoConfig,
        facts: Sequence[Facts],
        feature_refs: Sequence[str],
        entity_df: pd.DataFrame,
        *,
        full_feature_names: bool,
    ) -> None:
        super().__init__()
        self._folder = Path(config.repo_path or ".")
        self._facts = facts
        self._full_feature_names = full_feature_names
        time = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        moments = entity_df[time].infer_objects()
        if moments.dtype == object or pd.api.types.is_string_dtype(moments):
            moments = pd.to_datetime(moments, utc=True)
        self._time = time
        self._asked = _plain(pa.Table.from_pandas(entity_df.assign(**{time: moments}), preserve_index=False))
        self._metadata = RetrievalMetadata(
            features=list(feature_refs),
            keys=[column for column in entity_df.columns if column != time],
            min_event_timestamp=moments.min().to_pydatetime(),
            max_event_timestamp=moments.max().to_pydatetime(),
        )

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's own ignores it, too
        joined = self._asked
        with joining(self._folder) as duck:
            for facts in self._facts:
                keys = [self._asked[column] for _, column in facts.keys]
                found = asof_values(duck, facts, keys, self._asked[self._time])
                for name in found.column_names:
                    joined = joined.append_column(name, found[name])
        return joined

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature's name says its view."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """None: they are left to Feast."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata:
        """What was asked for."""
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,  # noqa: FBT001, FBT002 - Feast's own interface
        timeout: int | None = None,
    ) -> None:
        """Write the joined rows as a saved dataset, with Feast's own writer."""
        table = ibis.memtable(self.to_arrow(timeout=timeout))
        _write_data_source(table, storage.to_data_source(), str(self._folder), "overwrite", allow_overwrite)


def _facts(view: FeatureView, feature_refs: Sequence[str], full_names: bool, only_known: bool) -> Facts:  # noqa: FBT001
    """The view as facts to join, with the features that the references name."""
    projection = view.projection
    prefix = f"{projection.name_to_use()}:"  # type: ignore[no-untyped-call]
    names = [ref.removeprefix(prefix) for ref in feature_refs if ref.startswith(prefix)]
    shown = f"{projection.name_alias or view.name}__" if full_names else ""
    source = view.batch_source
    keys = projection.join_key_map or {column.name: column.name for column in view.entity_columns}
    return Facts(
        path=getattr(source, "path", ""),
        keys=tuple(keys.items()),
        event_time=source.timestamp_field if source else "",
        created_time=(source and source.created_timestamp_column) or None,
        only_known=only_known,
        ttl=view.ttl or None,
        features=tuple((name, f"{shown}{name}") for name in names),
    )


def _left_to_feast(
    config: RepoConfig, views: Sequence[FeatureView], facts: Sequence[Facts], entity_df: pd.DataFrame
) -> Iterator[str]:
    """Why Feast's own join has to answer: nothing, or the reasons."""
    if config.offline_store.staging_location is not None:
        yield "a staging location is set"
    asked_columns = set(entity_df.columns)
    for view, each in zip(views, facts, strict=True):
        if not _is_local_parquet(view.batch_source):
            yield f"{view.name} does not come from local Parquet files with the columns as they are"
        if missing := [column for _, column in each.keys if column not in asked_columns]:
            yield f"the entity dataframe has no {', '.join(missing)}"
        if same := [name for _, name in each.features if name in asked_columns]:
            yield f"the entity dataframe has columns of the same name: {', '.join(same)}"


def _is_local_parquet(source: DataSource | None) -> bool:
    if not isinstance(source, FileSource) or source.field_mapping:
        return False
    if "://" in source.path or Path(source.path).is_dir():
        return False
    return isinstance(source.file_format, ParquetFormat) or (
        source.file_format is None and source.path.endswith(".parquet")
    )


def _plain(table: pa.Table) -> pa.Table:
    """The types in which DuckDB returns a dataframe's columns: times in microseconds, categories as their values."""
    return table.cast(pa.schema([(field.name, _plain_type(field.type)) for field in table.schema]), safe=False)


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type_):
        return type_.value_type
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", tz=type_.tz)
    return type_
