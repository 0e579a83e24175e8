from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import timm
from graphs import make_spec, write_grey_graph
from onnx import load, save
from public_parameters import ODD_VALUES, check_accepted_or_refused, check_refused, public_parameters
from safetensors.torch import save_file

from tamiz import OutputError, RepositoryError, ServerError, SpecError, TamizError
from tamiz.errors import ExportError, RunError, TrackingError
from tamiz.spec import SPEC_METADATA
from tamiz_release import (
    CanarySettings,
    Candidate,
    Description,
    GateImages,
    GateLimits,
    InputSettings,
    ModelSource,
    PublicationOptions,
    TimmSource,
    WatchLimits,
    carry_out,
    compare,
    examine,
    export_precision,
    folder_images,
    graph_candidate,
    open_on_disk,
    open_on_server,
    open_source,
    plan_release,
    publish_candidate,
    publish_graph,
    publish_registered,
    publish_run,
    publish_timm,
    read_description,
    replay_results,
    run_candidate,
    run_gate,
    run_images,
    synchronise,
    timm_candidate,
    watch,
    write_adapted,
)
from tamiz_server import Control, Repository
from tamiz_train import LabelledImages, Run

RECORDS = {
    # Made by Tamiz.
    *("Adaptation", "Comparison", "Difference", "GateCheck", "GateReport", "LabelComparison", "PublishedVersion"),
    *("RecordedVersion", "ReleasePlan", "ReleaseReport", "ReleaseStep", "Replay", "ReplayDifference"),
    *("WatchFinding", "WatchReport"),
}
OF_THE_PACKAGE = {
    # The gate chooses images by these, with indices and hashes that it computes.
    *("GateImages.spread.most", "GateImages.take.indices", "GateImages.to_split.spec", "GateImages.unseen.fitted"),
    *(f"GateImages.spread_unseen.{name}" for name in ("most", "fitted", "rather_not")),
    *("GateLimits.of_precision.precision", "ReleasePlan.decided.candidate", "ReleasePlan.describe.step"),
    *("ModelSource.evaluate.split", "TimmSource.evaluate.split", "TimmSource.write_graph.path"),
}
"""Parameters of methods that are public within the package, and no part of what a caller uses."""

ERRORS: tuple[type[TamizError], ...] = (
    *(ExportError, OutputError, RepositoryError, RunError, ServerError, SpecError, TrackingError),
)
SPEC = make_spec(["cat", "dog"])
RUN, STORE = Run(Path("missing")), Repository("models")
IMAGES = GateImages("some images", LabelledImages("some", [], []))


class Source(ModelSource):
    """A model that is never evaluated."""

    title, spec = "some model", SPEC

    def evaluate(self, split: Any) -> Any:
        raise RunError("never evaluated")


def with_defaults(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda **arguments: function(**{**given, **arguments})


def opened(**arguments: Any) -> None:
    with open_source(**{"name": "missing", "repository": Path("models"), **arguments}):
        pass


def on_server(**arguments: Any) -> None:
    given: dict[str, Any] = {"url": "grpc://127.0.0.1:9", **arguments}
    open_on_server(**given)


def watched(**arguments: Any) -> None:
    with closing(Control("grpc://127.0.0.1:9")) as control:
        watch(**{"repository": STORE, "model": "pets", "control": control, "watch_s": 0.1, **arguments})


NO_OBJECT = (None, 5, "a", {})
NO_OPTION = (5, "a", {})
NO_PATH = (None, 5, True, "", b"a", "a\0b", ["a"])
NO_FILE = NO_PATH[1:]
NO_NAME = (None, 5, "", b"pets", "a\nb")
NO_REASON = (5, "", " \n")
NO_FLAG = (None, 1, "yes")
NO_SECONDS = (None, "5", True, 0, -1, math.nan, math.inf)
NO_FUNCTION = (None, 5, "print")
NO_TEXT = (None, 5, b"a")
NO_LIST = (None, 5, "a.png", {"a": 1})

RELEASED: dict[str, tuple[object, ...]] = {
    "repository": (None, 5, "models"),
    "model": NO_NAME,
    "images": NO_OPTION,
    "options": NO_OBJECT,
    "on_progress": NO_FUNCTION,
}
"""What all publications take."""

OPTIONS: dict[str, tuple[object, ...]] = {
    "limits": NO_OBJECT,
    "force": NO_REASON,
    "apply_serving": NO_FLAG,
    "control": (5, "grpc://localhost:8001"),
    "reason": NO_TEXT,
}
OPTIONAL_NAME = {"model": NO_NAME[1:]}
TARGET = {"target": (None, 5, "tpu"), "engine_cache": (5, "", b"a")}
candidate = with_defaults(Candidate, graph=Path("pets.onnx"), spec=SPEC)
gate_images = with_defaults(GateImages, origin="some images", images=LabelledImages("some", [], []))
plan = with_defaults(plan_release, run=RUN, repository=STORE, model="pets")
exporting = with_defaults(export_precision, run=RUN, precision="int8")
adding = with_defaults(publish_candidate, candidate=Candidate(Path("none.onnx"), SPEC), repository=STORE, model="pets")
graph = with_defaults(publish_graph, path=Path("none.onnx"), repository=STORE, model="pets")
registered = with_defaults(publish_registered, uri="models:/pets@champion", repository=STORE)
of_run = with_defaults(publish_run, run=RUN, repository=STORE)
of_timm = with_defaults(publish_timm, source=None, repository=STORE, model="pets")
gated = with_defaults(
    run_gate, candidate=Candidate(Path("none.onnx"), SPEC), reference=None, images=None, model="pets", config={}
)
replayed = with_defaults(replay_results, path=Path("results.csv"), open_version=open_on_disk(STORE))


def table(of: str, call: Callable[..., Any], /, **values: tuple[object, ...]) -> dict[str, Any]:
    return {f"{of}.{parameter}": (call, wrong) for parameter, wrong in values.items()}


WRONG: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
    **table(
        "CanarySettings",
        CanarySettings,
        share=(None, "5", True, 0, 1.5, math.nan),
        watch_s=NO_SECONDS,
        limits=NO_OBJECT,
        probes_per_s=(None, "5", True, -1, math.nan, math.inf, 2**70),
    ),
    **table(
        "Candidate",
        candidate,
        graph=(None, 5, "pets.onnx", b"a"),
        spec=NO_OBJECT,
        precision=(None, 32, "fp8", []),
        accelerators=(None, 5, "openvino", []),
        settings=NO_OPTION,
        manifest=(None, 5, "a", []),
        made_from=(5, b"a", ""),
    ),
    **table("Description", Description, labels=(None, 5, "cat", {"cat": 1}, [5])),
    **table("Description", with_defaults(Description, labels=("cat", "dog")), settings=(None, 5, "a")),
    **table("Description.from_spec", Description.from_spec, spec=NO_OBJECT),
    **table(
        "GateImages",
        gate_images,
        origin=NO_NAME,
        images=NO_OBJECT,
        labelled=NO_FLAG,
        contents=(5, b"a"),
        notes=(None, 5, "a", ["a"]),
    ),
    **table(
        "GateLimits",
        GateLimits,
        **{name: ("a", -1, math.nan, [], 1.5) for name in ("label_agreement", "probability_difference")},
        **{name: ("a", -1, math.nan, [], 1.5) for name in ("accuracy_drop", "calibration_increase", "live_drop")},
        **{name: ("a", -1, math.nan, [], 0) for name in ("slowdown", "growth")},
        images=(None, "a", 0, 2.5),
    ),
    **table(
        "InputSettings",
        InputSettings,
        preprocessing=("a", [], -1),
        normalisation=("a", 5, []),
        scale=("a", 2, []),
        channel_order=(None, 5, "RBG"),
        layout=("CHW", 5),
        task=(None, "a", 5),
        thresholds=("a", 1.5, [2]),
        activation=("relu", 5),
        background=("a", -1),
        output=(5, []),
    ),
    **table("PublicationOptions", PublicationOptions, promote=NO_FLAG, serving_later=NO_FLAG, **OPTIONS),
    **table("TimmSource", TimmSource, name=NO_NAME),
    **table("TimmSource", with_defaults(TimmSource, name="resnet18"), weights=NO_FILE, labels=(5, "cat", b"a")),
    **table(
        "WatchLimits",
        WatchLimits,
        errors=(None, "5", True, -0.1, 1, math.nan),
        latency=(None, "5", True, 0.5, math.nan, math.inf),
        agreement=(None, "5", True, 0, 1, math.nan),
        false_alarm=(None, "5", True, 0, 1, math.nan),
    ),
    **table("carry_out", carry_out, plan=NO_OBJECT),
    **table("compare", with_defaults(compare, second=Source(), images=IMAGES.images), first=NO_OBJECT),
    **table("compare", with_defaults(compare, first=Source(), images=IMAGES.images), second=NO_OBJECT),
    **table("compare", with_defaults(compare, first=Source(), second=Source()), images=NO_OBJECT),
    **table("examine", examine, path=NO_PATH),
    **table(
        "examine",
        with_defaults(examine, path=Path("none.onnx")),
        description=NO_OPTION,
        images=(*NO_LIST, [5], [""]),
        confined=NO_FLAG,
        seconds=(None, "5", True, 2.5, 0),
        memory=(None, "5", True, 2.5, 0),
    ),
    **table(
        "export_precision",
        exporting,
        run=NO_OBJECT,
        precision=(None, 8, "int4", []),
        budget_s=NO_SECONDS,
        max_loss_points=(None, "5", True, -1, 100, math.nan),
        runtimes=(None, 5, "openvino", [], ["tensorrt"], [5]),
        on_progress=NO_FUNCTION,
        **TARGET,
    ),
    **table("folder_images", with_defaults(folder_images, spec=SPEC), folder=NO_PATH),
    **table("folder_images", with_defaults(folder_images, folder=Path("none")), spec=NO_OBJECT),
    **table(
        "graph_candidate",
        with_defaults(graph_candidate, path=Path("none.onnx"), folder=Path(), adaptation=None),
        adaptation=NO_OBJECT,
        path=NO_PATH,
    ),
    **table("open_on_disk", open_on_disk, repository=(None, 5, "models")),
    **table(
        "open_on_server",
        on_server,
        url=(None, 5, "", "ftp://a", "localhost"),
        headers=(5, "a", {"a": 5}),
        tls=NO_OPTION,
    ),
    **table("open_source", opened, name=NO_NAME, repository=NO_PATH),
    **table(
        "open_source", with_defaults(opened, name="grpc://127.0.0.1:9/pets"), headers=(5, "a", {"a": 5}), tls=NO_OPTION
    ),
    **table(
        "plan_release",
        plan,
        run=NO_OBJECT,
        precision=(None, 8, "int4"),
        budget_s=NO_SECONDS,
        max_loss_points=(None, "5", True, -1, 100, math.nan),
        canary=(5, 0.1, "10%"),
        **OPTIONS | OPTIONAL_NAME | {"repository": RELEASED["repository"], "images": NO_OPTION},
    ),
    **table(
        "publish_candidate",
        adding,
        candidate=NO_OBJECT,
        reference=NO_OPTION,
        on_passed=NO_FUNCTION,
        **RELEASED,
    ),
    **table("publish_graph", graph, path=NO_PATH, adaptation=NO_OPTION, **RELEASED, **TARGET),
    **table(
        "publish_registered",
        registered,
        uri=NO_NAME,
        **RELEASED | OPTIONAL_NAME | {"images": NO_FILE},
    ),
    **table(
        "publish_run",
        of_run,
        run=NO_OBJECT,
        precision=(None, 8, "int4"),
        budget_s=NO_SECONDS,
        max_loss_points=(None, "5", True, -1, 100, math.nan),
        runtimes=(None, 5, "openvino", [], ["tensorrt"]),
        on_exported=NO_FUNCTION,
        on_passed=NO_FUNCTION,
        **RELEASED | OPTIONAL_NAME | TARGET,
    ),
    **table("publish_timm", of_timm, source=NO_OBJECT),
    **table("read_description", read_description, graph=NO_PATH),
    **table(
        "read_description",
        with_defaults(read_description, graph=Path("none.onnx")),
        labels=NO_FILE,
        preprocessing=NO_FILE,
    ),
    **table(
        "replay_results",
        replayed,
        path=NO_PATH,
        open_version=NO_FUNCTION,
        model=NO_NAME[1:],
        sample=(None, "5", True, 2.5, 0),
        seed=(None, "5", True, 2.5, -1),
        root=NO_PATH,
        on_image=NO_FUNCTION,
    ),
    **table(
        "run_candidate",
        with_defaults(run_candidate, run=RUN, graph=Path("pets.onnx")),
        run=NO_OBJECT,
        graph=(None, 5, "pets.onnx"),
        precision=(None, 32, "fp8"),
        accelerators=(5, "openvino", []),
    ),
    **table(
        "run_gate",
        gated,
        candidate=NO_OBJECT,
        reference=NO_OPTION,
        images=NO_OPTION,
        model=NO_NAME,
        config=(None, 5, "a", []),
        live=NO_OPTION,
        limits=NO_OBJECT,
        notes=(None, 5, "a", {}),
        open_session=NO_FUNCTION,
        on_progress=NO_FUNCTION,
    ),
    **table("run_images", run_images, run=NO_OBJECT),
    **table("synchronise", with_defaults(synchronise, model="pets"), repository=(None, 5, "models")),
    **table("synchronise", with_defaults(synchronise, repository=STORE), model=NO_NAME),
    **table("synchronise", with_defaults(synchronise, repository=STORE, model="pets"), on_progress=NO_FUNCTION),
    **table("timm_candidate", with_defaults(timm_candidate, folder=Path()), source=NO_OBJECT),
    **table(
        "watch",
        watched,
        repository=(None, 5, "models"),
        model=NO_NAME,
        control=(None, 5, "grpc://localhost:8001"),
        watch_s=NO_SECONDS,
        limits=NO_OPTION,
        images=NO_LIST,
        probes_per_s=(None, "5", True, -1, math.nan, 2**70),
        then_promote=NO_FLAG,
        settings=NO_OPTION,
        on_start=NO_FUNCTION,
        on_promote=NO_FUNCTION,
        on_progress=NO_FUNCTION,
    ),
    **table("write_adapted", with_defaults(write_adapted, adaptation=None, out=Path("out.onnx")), path=NO_PATH),
    **table(
        "write_adapted",
        with_defaults(write_adapted, path=Path("none.onnx"), out=Path("out.onnx")),
        adaptation=NO_OBJECT,
    ),
}

WITH_AN_ADAPTATION = {"graph_candidate.folder", "write_adapted.out"}
WITH_A_MODEL_OF_TIMM = {"timm_candidate.folder", *(f"publish_timm.{name}" for name in RELEASED)}
WITH_A_PLAN = {"carry_out.on_step", "carry_out.on_progress"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with the repository ``models``, the graph ``pets.onnx`` and results of no image."""
    (tmp_path / "models").mkdir()
    path = write_grey_graph(tmp_path / "pets.onnx", SPEC)
    model = load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=SPEC.to_json())
    save(model, path)
    (tmp_path / "results.csv").write_text("path,label,score\n")
    monkeypatch.chdir(tmp_path)


def test_every_public_parameter_has_a_row() -> None:
    parameters = public_parameters("tamiz_release", records=RECORDS)
    rows = set(WRONG) | WITH_AN_ADAPTATION | WITH_A_MODEL_OF_TIMM | WITH_A_PLAN
    assert rows == parameters - OF_THE_PACKAGE
    assert parameters >= OF_THE_PACKAGE


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_parameter(name: str) -> None:
    call, values = WRONG[name]
    for value in values:
        check_refused(call, name.rpartition(".")[2], value)


@pytest.mark.parametrize("name", ["graph_candidate.folder", "write_adapted.out"])
def test_a_wrong_folder_or_file_for_an_adapted_graph_is_refused(name: str) -> None:
    found = examine(Path("pets.onnx"), confined=False)
    call = {"graph_candidate": graph_candidate, "write_adapted": write_adapted}[name.partition(".")[0]]
    for value in NO_PATH:
        check_refused(with_defaults(call, path=Path("pets.onnx"), adaptation=found), name.rpartition(".")[2], value)


def test_a_wrong_function_for_the_steps_of_a_release_is_refused(trained: Run) -> None:
    planned = plan_release(trained, STORE)
    for name in ("on_step", "on_progress"):
        for value in NO_FUNCTION:
            check_refused(with_defaults(carry_out, plan=planned), name, value)


def test_what_is_published_of_a_model_of_timm_is_checked_before_it_is_exported(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    source = TimmSource("test_resnet", weights)
    for name, values in RELEASED.items():
        for value in values:
            check_refused(with_defaults(of_timm, source=source), name, value)
    for value in NO_PATH:
        check_refused(with_defaults(timm_candidate, source=source), "folder", value)


LEFT_OUT = ("watch.", "TimmSource.")
"""A watch would wait for its server, and timm would download weights."""


# A class can be called, and would be told what is done.
@pytest.mark.parametrize(
    "name", [each for each in WRONG if ".on_" not in each and ".open_" not in each and not each.startswith(LEFT_OUT)]
)
def test_any_value_is_taken_or_refused_in_one_short_line(name: str) -> None:
    call, _ = WRONG[name]
    for value in ODD_VALUES:
        check_accepted_or_refused(call, name.rpartition(".")[2], value, ERRORS)
