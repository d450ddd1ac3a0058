"""A use case is found by its name, in every stage that asks for it."""

from __future__ import annotations

import msgspec
import pytest

from reference_system.dataset_import.file_shapes import FileShape, file_shape
from reference_system.errors import WorkbookError
from reference_system.events import PredictionLogged
from reference_system.flows.batch.case import BatchCase, batch_case
from reference_system.flows.monitoring.case import MonitoredCase, monitored_case
from reference_system.flows.training.case import TrainingCase, training_case
from reference_system.paths import PROJECT_ROOT
from reference_system.use_case import USE_CASES, UseCase, case_module, require_use_case
from reference_system.use_cases import DECLARATIONS

LOOK_UPS = {
    "training": (training_case, TrainingCase),
    "batch": (batch_case, BatchCase),
    "monitoring": (monitored_case, MonitoredCase),
    "dataset import": (file_shape, FileShape),
}


@pytest.mark.parametrize("use_case", USE_CASES)
def test_a_declaration_carries_the_name_under_which_it_is_found(use_case):
    assert DECLARATIONS[use_case].name == use_case


@pytest.mark.parametrize("use_case", USE_CASES)
@pytest.mark.parametrize("stage", LOOK_UPS)
def test_each_stage_finds_each_use_case(stage, use_case):
    look_up, record = LOOK_UPS[stage]
    assert isinstance(look_up(use_case), record)


@pytest.mark.parametrize("use_case", USE_CASES)
def test_the_releases_of_each_use_case_are_compared(use_case):
    assert callable(case_module("reference_system.flows.release", use_case).COMPARE)


@pytest.mark.parametrize("look_up", [require_use_case, *(find for find, _ in LOOK_UPS.values())])
def test_a_misspelt_name_is_an_error_that_names_those_there_are(look_up):
    with pytest.raises(WorkbookError, match=r"no use case 'frauds' \(there are fraud, recommendation\)"):
        look_up("frauds")


def test_a_record_with_another_name_is_refused():
    with pytest.raises(msgspec.ValidationError, match="frauds"):
        msgspec.convert("frauds", UseCase)
    fields = msgspec.json.schema(PredictionLogged)["$defs"]["PredictionLogged"]["properties"]
    assert fields["use_case"]["enum"] == sorted(USE_CASES)


def test_the_names_are_packages_and_nothing_else_is_one():
    folders = {path.parent.name for path in (PROJECT_ROOT / "reference_system" / "use_cases").glob("*/declaration.py")}
    assert folders == set(USE_CASES)
