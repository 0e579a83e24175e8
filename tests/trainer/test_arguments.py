from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import make_spec
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_refused, public_parameters
from torch import nn

from tamiz import OutputError
from tamiz.errors import RunError
from tamiz_train import (
    Classifier,
    Data,
    Evaluation,
    LabelledImages,
    Run,
    Split,
    evaluate,
    explain,
    export,
    load_classifier,
    load_recipe,
    load_run_data,
    predict,
    read_labelled_folder,
    resume,
    train,
)

RECORDS = {
    *("CalibrationBin", "ClassMetrics", "Data", "Evaluation", "Explanation", "Exported", "Mistake", "Parity"),
    # A recipe is read by load_recipe, which reports its problems.
    "Recipe",
}
OF_THE_TRAINER = {
    # The trainer writes a run by these, and PyTorch checks its tensors.
    *("Classifier.forward.image", "Classifier.probabilities.logits", "Recipe.with_input.normalisation"),
    *("Recipe.with_input.preprocessing", "Run.create.recipe", "Run.finish.metrics"),
    *("Run.finish.parity_images", "Run.finish.spec", "Run.finish.weights"),
    "Run.recorded_images.splits",
    # It selects images and labels by these, with indices that it computes.
    *("LabelledImages.among.hashes", "LabelledImages.require_labels.known", "LabelledImages.require_labels.who"),
    *("LabelledImages.take.indices", "Split.counts.labels", "Split.fingerprint.root", "Split.labels.labels"),
    *("Split.take.indices", "Split.take.name"),
}
"""Parameters of methods that are public within the trainer, and no part of what a caller uses."""

SPEC = make_spec(["cat", "dog"], 8, 8)
SPLIT = Split("test", np.zeros((1, 8, 8), np.uint8), np.zeros(1, np.int64))
DATA = Data(
    SPEC.labels, "multiclass", *(dataclasses.replace(SPLIT, name=name) for name in ("train", "validation", "test"))
)
EVALUATION = Evaluation(SPLIT, SPEC, np.full((1, 2), 0.5, np.float32), np.zeros(1, np.int64), ())
MISSING = Run(Path("missing"))


def with_defaults(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda **arguments: function(**{**given, **arguments})


def evaluate_network(**arguments: Any) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), SPEC)
    evaluate(**{"classifier": classifier, "split": SPLIT, "spec": SPEC, **arguments})


NO_OBJECT = (None, 5, "a", {})
NO_PATH = (None, 5, True, "", b"a", "a\0b", ["a"])
NO_LIST = (None, 5, "a", b"a", {"a": 1}, {"a"})
NO_FILES = (*NO_LIST, [5], ["a.png", None])
NO_FUNCTION = (None, 5, "print")
labelled = with_defaults(LabelledImages, name="pets", images=[Path("a.png")], labels=[("cat",)])
split = with_defaults(Split, name="test", images=[Path("a.png")], targets=np.zeros(1, np.int64))
explanation = with_defaults(explain, run=MISSING, images=[Path("a.png")], out=Path("out"))
WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    "Classifier.network": (with_defaults(Classifier, spec=SPEC), NO_OBJECT),
    "Classifier.spec": (with_defaults(Classifier, network=nn.Flatten()), NO_OBJECT),
    "Data.split.name": (DATA.split, (None, 5, "val", [])),
    "Evaluation.differences.other": (EVALUATION.differences, NO_OBJECT),
    "Evaluation.name.index": (EVALUATION.name, (None, "0", True, 0.5, -1, 1, 2**70)),
    "Evaluation.with_spec.spec": (EVALUATION.with_spec, NO_OBJECT),
    "LabelledImages.name": (labelled, (None, 5, b"a")),
    "LabelledImages.images": (labelled, NO_LIST),
    "LabelledImages.labels": (labelled, (*NO_LIST, ["cat"], [5], [])),
    "LabelledImages.left_out": (labelled, NO_OBJECT),
    "LabelledImages.to_split.spec": (LabelledImages("pets", [], []).to_split, NO_OBJECT),
    "Run.path": (Run, (None, 5, "runs/digits", b"a")),
    "Run.find.path": (Run.find, NO_PATH),
    "Run.find_unfinished.path": (Run.find_unfinished, NO_PATH),
    "Split.name": (split, (None, 5, b"a")),
    "Split.images": (split, (*NO_LIST, np.zeros(3))),
    "Split.image_name.index": (SPLIT.image_name, (None, "0", True, 0.5, -1, 1, 2**70)),
    "Split.targets": (split, (None, 5, [0], np.array(3), np.zeros(2), np.zeros((1, 1, 1)))),
    "evaluate.classifier": (evaluate_network, NO_OBJECT),
    "evaluate.split": (evaluate_network, NO_OBJECT),
    "evaluate.spec": (evaluate_network, NO_OBJECT),
    "explain.run": (explanation, NO_OBJECT),
    "explain.images": (explanation, NO_FILES),
    "explain.out": (explanation, NO_PATH),
    "explain.label": (explanation, (5, b"cat", ["cat"])),
    "export.run": (export, NO_OBJECT),
    "load_classifier.run": (load_classifier, NO_OBJECT),
    "load_recipe.name": (load_recipe, NO_PATH),
    "load_recipe.overrides": (with_defaults(load_recipe, name="digits"), (*NO_LIST, [5], [b"a=1"])),
    "load_recipe.environment": (with_defaults(load_recipe, name="digits"), (5, "a=1", [("a", "1")])),
    "load_run_data.run": (load_run_data, NO_OBJECT),
    "load_run_data.splits": (with_defaults(load_run_data, run=MISSING), (None, 5, "test", b"test", ["val"], [5])),
    "predict.run": (with_defaults(predict, images=[]), NO_OBJECT),
    "predict.images": (with_defaults(predict, run=MISSING), (*NO_LIST, np.zeros((8, 8, 3), np.uint8))),
    "predict.top_k": (with_defaults(predict, run=MISSING, images=[]), (None, "5", True, 2.5, 0, -1)),
    "predict.features": (with_defaults(predict, run=MISSING, images=[]), (5, "a", ())),
    "read_labelled_folder.folder": (read_labelled_folder, NO_PATH),
    "resume.run": (resume, NO_OBJECT),
    "resume.on_progress": (with_defaults(resume, run=MISSING), NO_FUNCTION),
    "resume.overrides": (with_defaults(resume, run=MISSING), (*NO_LIST, [5])),
    "train.recipe": (train, (*NO_OBJECT, "digits")),
    "train.on_progress": (with_defaults(train, recipe=load_recipe("digits")), NO_FUNCTION),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)


def test_every_public_parameter_has_a_row() -> None:
    parameters = public_parameters("tamiz_train", records=RECORDS)
    assert set(WRONG) == parameters - OF_THE_TRAINER
    assert parameters >= OF_THE_TRAINER


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


# A class can be called, and would train.
@pytest.mark.parametrize("name", [name for name in WRONG if not name.endswith(".on_progress")])
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    for value in ODD_VALUES:
        check_accepted_or_refused(call, name.rpartition(".")[2], value, (OutputError, RunError))


def test_a_split_may_have_no_images_and_a_counter_what_was_left_out() -> None:
    assert len(Split("test", [], np.zeros(0, np.int64))) == 0
    assert LabelledImages("pets", [], [], Counter(hidden=2)).left_out["hidden"] == 2
