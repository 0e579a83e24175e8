"""Plans of releases: which steps there are, and what stops a release before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError, UsageError
from tamiz_release.candidate import Candidate
from tamiz_release.gate import GateLimits
from tamiz_release.releasing.canary import CanarySettings, explain_no_canary
from tamiz_release.releasing.plan import plan_release
from tamiz_release.rollout.judge import WatchLimits
from tamiz_server.promotion import promote
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_train.run import Run


def add(repository: Repository, run: Run, folder: Path, model: str = "digits", **options: object) -> int:
    """Publish a version with the input and the labels of a run, or with others."""
    shape = run.spec.preprocessing
    size = {"height": shape.height, "width": shape.width, "colour": shape.colour, **options}
    spec = make_spec(list(run.spec.labels), **size)
    return repository.publish(model, write_grey_graph(folder / f"{model}.onnx", spec), spec)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("situation", "why"),
    [
        ({}, ""),
        ({"is_new": True, "live": None}, "first version of the model"),
        ({"is_new": True, "live": None, "has_server": False}, "first version of the model"),
        ({"live": None}, "no version is live beside which"),
        ({"has_server": False}, "goes live on disk without being tried; pass the server's --url"),
        ({"wanted": False}, "none was asked for"),
    ],
    ids=str,
)
def test_there_is_a_canary_if_a_server_has_a_live_version_and_one_is_wanted(
    situation: dict[str, object], why: str
) -> None:
    found = explain_no_canary(**{"is_new": False, "live": 1, "has_server": True, "wanted": True, **situation})
    assert (why in found) if why else found == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0}, "share: 0"),
        ({"share": 1.5}, "share: 1.5"),
        ({"watch_s": 0}, "watch_s: 0"),
        ({"limits": 1}, "limits: 1"),
        ({"probes_per_s": -1}, "probes_per_s: -1"),
    ],
    ids=str,
)
def test_settings_of_a_canary_outside_of_their_ranges_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CanarySettings(**values)


def test_the_first_version_goes_live_after_the_gate_and_nothing_is_written(trained: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    before = files(trained.path)
    plan = plan_release(trained, repository)
    assert plan.steps == ("export", "gate", "publish")
    assert (plan.model, plan.version, plan.live, plan.canary) == ("digits", 1, None, None)
    assert plan.describe("publish").endswith("it is the first version, so it goes live at once")
    assert not repository.path.exists()
    assert files(trained.path) == before


def test_without_a_server_the_next_version_goes_live_on_disk_without_a_canary(trained: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    add(repository, trained, tmp_path)
    before = files(repository.path)
    plan = plan_release(trained, repository)
    assert plan.steps == ("export", "gate", "publish", "promote")
    assert (plan.version, plan.live) == (2, 1)
    assert plan.describe("promote") == f"version 2 goes live instead of version 1 in {repository.path}"
    assert files(repository.path) == before


def test_a_plan_says_what_is_exported_and_which_limits_the_gate_has(trained: Run, tmp_path: Path) -> None:
    limits = GateLimits(live_drop=0.02)
    plan = plan_release(trained, Repository(tmp_path), model="other", precision="int8", limits=limits, force="a trial")
    assert plan.describe("export") == f"{trained.path} to model.int8.onnx, int8"
    assert "live_drop 0.02" in plan.describe("gate")
    assert "accuracy_drop 0.005" in plan.describe("gate")
    assert plan.describe("gate").endswith("published even if it fails: a trial")
    document = plan.to_dict()
    assert (document["model"], document["graph"]) == ("other", str(trained.path / "model.int8.onnx"))
    assert [step["name"] for step in document["steps"]] == ["export", "gate", "publish"]


def test_auto_is_decided_at_export_within_its_time_and_the_steps_after_it_have_what_was_exported(
    trained: Run, tmp_path: Path
) -> None:
    plan = plan_release(trained, Repository(tmp_path), budget_s=20)
    assert plan.describe("export") == (
        f"{trained.path}, auto: the fastest precision that passes, in onnxruntime or openvino; decided at export, "
        "within 20 s"
    )
    assert plan.describe("gate").endswith("calibration_increase 0.02, live_drop 0.005, and those of the precision")
    document = plan.to_dict()
    assert (document["precision"], document["graph"], document["accelerators"]) == ("auto", None, {})
    openvino = {"cpu_execution_accelerator": [{"name": "openvino"}]}
    decided = plan.decided(Candidate(trained.path / "model.int8.onnx", trained.spec, "int8", openvino))
    assert "accuracy_drop 0.005" in decided.describe("gate")
    document = decided.to_dict()
    assert (document["precision"], document["accelerators"]) == ("int8", openvino)
    assert document["graph"] == str(trained.path / "model.int8.onnx")


def test_auto_chooses_among_the_runtimes_that_can_be_loaded_beside_the_live_version(
    trained: Run, served: Served, tmp_path: Path
) -> None:
    name = served.new_name()
    add(served.repository, trained, tmp_path, name)
    served.control.load(name)
    plan = plan_release(trained, served.repository, model=name, control=served.control)
    assert plan.runtimes == ("onnxruntime",)
    without = plan_release(trained, served.repository, model=name, canary=None, control=served.control)
    assert without.runtimes == ("onnxruntime", "openvino")


def test_with_a_server_the_next_version_is_a_canary_that_is_watched_and_promoted(
    trained: Run, served: Served, tmp_path: Path
) -> None:
    name = served.new_name()
    add(served.repository, trained, tmp_path, name)
    served.control.load(name)
    canary = CanarySettings(share=0.25, watch_s=30, limits=WatchLimits(agreement=0.9))
    plan = plan_release(trained, served.repository, model=name, canary=canary, control=served.control)
    assert plan.steps == ("export", "gate", "publish", "canary", "watch", "promote")
    assert plan.describe("canary") == f"0.25 of the calls, beside version 1 on {served.triton.url}"
    assert plan.describe("watch").startswith("30 s, 5 probes a second; rolled back if errors are 1.00% above")
    assert "less than 90% of the answers agree" in plan.describe("watch")
    assert plan.to_dict()["server"] == served.triton.url
    without = plan_release(trained, served.repository, model=name, canary=None, control=served.control)
    assert without.steps == ("export", "gate", "publish", "promote")


def test_a_version_that_cannot_be_loaded_beside_the_live_one_is_refused_before_the_export(
    trained: Run, served: Served, tmp_path: Path
) -> None:
    name = served.new_name()
    add(served.repository, trained, tmp_path, name, height=12)
    served.control.load(name)
    message = "version 2 cannot be loaded beside version 1.*: input .*; release it with --no-canary"
    with pytest.raises(RepositoryError, match=message):
        plan_release(trained, served.repository, model=name, control=served.control)
    assert plan_release(trained, served.repository, model=name, canary=None, control=served.control).version == 2


def test_a_model_with_a_canary_is_not_released_because_that_would_end_it(trained: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    for _ in range(2):
        add(repository, trained, tmp_path)
    start_rollout(repository, "digits", 2, shadow=0.1)
    with pytest.raises(RepositoryError, match="version 2 is a shadow, which this would end; end it first"):
        plan_release(trained, repository)


def test_a_server_that_does_not_serve_what_is_live_on_disk_is_refused(
    trained: Run, served: Served, tmp_path: Path
) -> None:
    name = served.new_name()
    for _ in range(2):
        add(served.repository, trained, tmp_path, name)
    served.control.load(name)
    promote(served.repository, name, 2)
    message = f"the server has version 1 of {name}, and version 2 is live on disk; .*`tamiz promote {name} 2 --url"
    with pytest.raises(RepositoryError, match=message):
        plan_release(trained, served.repository, model=name, control=served.control)


def test_a_folder_that_tamiz_did_not_publish_is_refused(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    with pytest.raises(RepositoryError, match="digits was not published by Tamiz"):
        plan_release(trained, Repository(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"canary": 0.1}, "canary: 0.1"),
        ({"force": ""}, "force: ''"),
        ({"control": "grpc://localhost"}, "control: 'grpc://localhost'"),
        ({"reason": None}, "reason: None"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(options: dict[str, object], message: str, trained: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan_release(trained, Repository(tmp_path), **options)


def test_the_number_of_the_next_version_is_that_which_publishing_gives_also_after_versions_were_removed(
    trained: Run, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "repository")
    for _ in range(3):
        add(repository, trained, tmp_path)
    repository.remove_versions("digits", keep=0)
    assert repository.version_numbers("digits") == [1]
    planned = repository.next_version("digits")
    assert planned == add(repository, trained, tmp_path) == 4
