from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs import make_spec, write_grey_graph
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_refused, public_parameters

from tamiz import ExportError, RepositoryError, ServerError
from tamiz.errors import RunError
from tamiz.spec import SPEC_METADATA
from tamiz_release import ModelSource, compare, open_source, publish_graph, publish_run
from tamiz_server import Repository
from tamiz_train import LabelledImages, Run

RECORDS = {"Comparison", "Difference", "LabelComparison", "PublishedVersion"}
SPEC = make_spec(["cat", "dog"])
NO_OBJECT = (None, 5, "a", {})
NO_PATH = (None, 5, True, "", b"a", "a\0b", ["a"])
NO_FLAG = (None, 1, "yes")
NO_NAME = (5, True, "", b"pets", "pe\0ts", ["pets"])
PUBLISHING = {
    "repository": (None, 5, "models"),
    "promote": NO_FLAG,
    "control": (5, "grpc://a:1"),
    "on_progress": (None, 5, "print"),
}


def open_model(**arguments: Any) -> None:
    with open_source(**{"name": "pets.onnx", "repository": Path("models"), **arguments}):
        pass


def open_served(**arguments: Any) -> None:
    open_model(name="grpc://127.0.0.1:9/pets", **arguments)


def compare_models(**arguments: Any) -> None:
    with graph() as source:
        compare(**{"first": source, "second": source, "images": LabelledImages("pets", [], []), **arguments})


def evaluate(**arguments: Any) -> None:
    with graph() as source:
        source.evaluate(**arguments)


def publish_missing_run(**arguments: Any) -> None:
    publish_run(**{"run": Run(Path("missing")), "repository": Repository("models"), **arguments})


def publish_missing_graph(**arguments: Any) -> None:
    publish_graph(**{"path": Path("missing"), "repository": Repository("models"), "model": "pets", **arguments})


@contextmanager
def graph() -> Iterator[ModelSource]:
    with open_source("pets.onnx", Path("models")) as source:
        yield source


WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    "ModelSource.evaluate.split": (evaluate, NO_OBJECT),
    "compare.first": (compare_models, NO_OBJECT),
    "compare.second": (compare_models, NO_OBJECT),
    "compare.images": (compare_models, NO_OBJECT),
    "open_source.name": (open_model, (None, *NO_NAME)),
    "open_source.repository": (open_model, NO_PATH),
    "open_source.tls": (open_served, (5, "ca.pem", True, {"ca": "a.pem"})),
    "open_source.headers": (open_served, (5, "a=b", {1: "a"}, {"a": 1})),
    "publish_graph.path": (publish_missing_graph, NO_PATH),
    "publish_graph.model": (publish_missing_graph, (None, *NO_NAME)),
    **{f"publish_graph.{name}": (publish_missing_graph, values) for name, values in PUBLISHING.items()},
    "publish_run.run": (publish_missing_run, NO_OBJECT),
    "publish_run.model": (publish_missing_run, NO_NAME),
    "publish_run.apply_serving": (publish_missing_run, NO_FLAG),
    **{f"publish_run.{name}": (publish_missing_run, values) for name, values in PUBLISHING.items()},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with the empty repository ``models`` and the graph ``pets.onnx`` with its spec."""
    (tmp_path / "models").mkdir()
    path = write_grey_graph(tmp_path / "pets.onnx", SPEC)
    model = onnx.load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=SPEC.to_json())
    onnx.save(model, path)
    monkeypatch.chdir(tmp_path)


def test_every_public_parameter_has_a_row() -> None:
    assert set(WRONG) == public_parameters("tamiz_release", records=RECORDS)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


# What a function of the caller raises is the caller's.
@pytest.mark.parametrize("name", [name for name in WRONG if not name.endswith(".on_progress")])
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    for value in ODD_VALUES:
        check_accepted_or_refused(
            call, name.rpartition(".")[2], value, (ExportError, RepositoryError, RunError, ServerError)
        )
