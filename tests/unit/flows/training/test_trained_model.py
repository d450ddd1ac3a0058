"""A use case that nobody declared is not trained as another."""

from __future__ import annotations

import pytest
from local_broker import NOON

from reference_system.errors import WorkbookError
from reference_system.flows.prefect_train import train
from reference_system.flows.training import trained_model
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.recommendation import model as recommendation

KNOWN = r"there is no use case 'frauds' \(there are fraud, recommendation\)"
ASKED = {
    "split": lambda name: trained_model.split_of(name, NOON),
    "fresh split": lambda name: trained_model.split_of(name, NOON, trigger="drift"),
    "selection spec": trained_model.selection_spec_of,
    "data": lambda name: trained_model.prepare_case(name, None, None, None, seed=1),
    "training": train.fn,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_an_unknown_use_case_is_an_error_that_names_those_there_are(ask):
    with pytest.raises(WorkbookError, match=KNOWN):
        ask("frauds")


def test_each_use_case_has_its_own_selection_spec():
    assert trained_model.selection_spec_of("fraud") is not trained_model.selection_spec_of("recommendation")
    assert trained_model.selection_spec_of("fraud").inputs == fraud.SIGNATURE
    assert trained_model.selection_spec_of("recommendation").inputs == recommendation.SIGNATURE
