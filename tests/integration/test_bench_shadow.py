"""The benchmark of the shadow measures both sides, and the shadow really works meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from local_broker import NOON
from served_models import write_fraud_bundle, write_recommendation_bundle

from reference_system.errors import StateError
from reference_system.event_time import micros
from reference_system.features.feast.store import apply, open_store, write_states
from reference_system.paths import StatePaths
from reference_system.proofs.benchmarks.shadow import RATES, measure_shadow
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY
from reference_system.windows import empty_tail


def quiet(_share, _text):
    """Progress that nobody watches."""


def test_both_sides_are_measured_and_every_request_has_its_shadow(settings):
    paths = StatePaths(settings.state_dir)
    with pytest.raises(StateError, match="no champions"):
        measure_shadow(settings, progress=quiet)
    write_fraud_bundle(paths.bundles)
    write_recommendation_bundle(paths.bundles, videos=400)
    store = open_store(paths)
    apply(store)
    state = empty_tail(CUSTOMER_ACTIVITY).pack()
    write_states(store, CUSTOMER_ACTIVITY, [("c000000", micros(NOON - timedelta(days=9)), 0, state)])

    result = measure_shadow(settings, laps=1, seconds=0.5, progress=quiet)

    assert [figure.unit for figure in result.figures] == ["ms", "ms", "CPU-ms"] * 2 * len(RATES)
    notes = {figure.note for figure in result.figures} - {""}
    assert all(float(note.split("%")[0]) > 50 for note in notes)
    assert len(result.goals) == 2 * len(RATES)
