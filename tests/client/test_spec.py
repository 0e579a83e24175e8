from __future__ import annotations

import json
import math

import pytest
from graphs import make_spec

from tamiz import ModelSpec, SpecError
from tamiz.spec import PREPROCESSING_REVISION, SCHEMA_VERSION


def document(**changes: object) -> str:
    return json.dumps(json.loads(make_spec(["cat", "dog"]).to_json()) | changes)


def test_a_spec_reads_back_equal_from_its_json() -> None:
    spec = make_spec(["gato", "perro", "niño"], height=32, width=48, colour="RGB")
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_multilabel_spec_reads_back_equal_from_its_json() -> None:
    spec = make_spec(["cat", "dog"], task="multilabel", thresholds=(0.5, 0.25))
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_newer_schema_is_rejected_with_both_numbers() -> None:
    newer = SCHEMA_VERSION + 1
    with pytest.raises(SpecError, match=f"schema {newer} is newer than {SCHEMA_VERSION}"):
        ModelSpec.from_json(document(schema_version=newer, a_new_key=1))


def test_an_unknown_preprocessing_revision_is_rejected_with_both_numbers() -> None:
    preprocessing = json.loads(document())["preprocessing"] | {"revision": 99, "a_new_key": 1}
    with pytest.raises(SpecError, match=f"revision 99 is unknown; supported: 1 to {PREPROCESSING_REVISION}"):
        ModelSpec.from_json(document(preprocessing=preprocessing))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"labels": ["cat", "cat"]}, "labels are not unique", id="labels twice"),
        pytest.param({"labels": ["cat"]}, "1 labels are too few for multiclass", id="one label"),
        pytest.param({"labels": ["cat", ""]}, "labels.1", id="empty label"),
        pytest.param({"thresholds": [0.5, 0.5]}, "multilabel requires thresholds", id="thresholds of multiclass"),
        pytest.param({"task": "multilabel"}, "multilabel requires thresholds", id="multilabel without"),
        pytest.param({"task": "multilabel", "thresholds": [0.5]}, "1 thresholds for 2 labels", id="too few"),
        pytest.param({"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, "must give 1 means", id="channels"),
        pytest.param({"normalisation": {"mean": [0], "std": [0]}}, "normalisation.std.0", id="division by zero"),
        pytest.param({"normalisation": {"mean": [math.nan], "std": [1]}}, "normalisation.mean.0", id="NaN"),
        pytest.param({"normalisation": {"mean": [0], "std": [math.inf]}}, "normalisation.std.0", id="infinity"),
        pytest.param({"wrong": 1}, "wrong", id="unknown key"),
    ],
)
def test_a_contradictory_spec_is_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_json(document(**changes))


@pytest.mark.parametrize("changes", [{"schema_version": "2"}, {"schema_version": 0}])
def test_a_malformed_schema_version_is_rejected(changes: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="schema_version"):
        ModelSpec.from_json(document(**changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_text_that_is_not_a_json_object_is_rejected_with_its_source(text: str) -> None:
    with pytest.raises(SpecError, match=r"^here: not (JSON|a JSON object)"):
        ModelSpec.from_json(text, source="here")
