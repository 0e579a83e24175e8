"""Releases in one go, on disk and on a real Triton."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz.errors import GateError
from tamiz_release import PublicationOptions
from tamiz_release.gate import GateLimits
from tamiz_release.precision.export import export_precision
from tamiz_release.releasing.canary import CanarySettings
from tamiz_release.releasing.plan import ReleasePlan, plan_release
from tamiz_release.releasing.release import ReleaseReport, carry_out
from tamiz_release.releasing.state import describe_state
from tamiz_release.releasing.steps import ReleaseStep
from tamiz_release.rollout.judge import WatchLimits
from tamiz_release.run_publication import publish_run
from tamiz_server.promotion import apply_settings, rollback
from tamiz_server.repository import Repository
from tamiz_train.run import Run

# The machine of these tests may be busy, and latencies are the subject of the tests of the judge.
CANARY = CanarySettings(share=0.3, watch_s=3.0, limits=WatchLimits(latency=1_000.0), probes_per_s=40.0)


@dataclass
class Watcher:
    """Records what a release tells, and interrupts it at a step."""

    at: str = ""
    steps: list[ReleaseStep] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def on_step(self, step: ReleaseStep) -> None:
        self.steps.append(step)
        if step.name == self.at and step.state == "running":
            raise KeyboardInterrupt

    def carry_out(self, plan: ReleasePlan) -> ReleaseReport:
        return carry_out(plan, on_step=self.on_step, on_progress=self.lines.append)


@pytest.fixture
def live(served: Served, run: Run) -> str:
    """A model whose live version is the run, in the repository and on the server."""
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    return name


@pytest.fixture
def plan(served: Served, run: Run) -> Callable[..., ReleasePlan]:
    def make(model: str, **options: object) -> ReleasePlan:
        # Without a search, which most of these tests are not about.
        given = {"precision": "fp32", **options}
        return plan_release(run, served.repository, model=model, control=served.control, canary=CANARY, **given)

    return make


def loaded(served: Served, model: str) -> list[int]:
    return sorted(each.version for each in served.control.models() if (each.model, each.state) == (model, "READY"))


def test_a_good_version_is_exported_gated_published_watched_and_promoted(
    served: Served, live: str, plan: Callable[..., ReleasePlan]
) -> None:
    watcher = Watcher()
    report = watcher.carry_out(plan(live, reason="weekly"))
    assert (report.outcome, report.version) == ("live", 2)
    assert [(step.name, step.state) for step in report.steps] == [
        (name, "done") for name in ("export", "gate", "publish", "canary", "watch", "promote")
    ]
    assert all(step.seconds > 0 and step.text for step in report.steps)
    assert [step.state for step in watcher.steps] == ["running", "done"] * 6
    assert report.watch is not None
    assert any(finding.measure == "agreement" for finding in report.watch.findings)
    assert report.gate.passed
    assert loaded(served, live) == [2]
    assert [(entry.what, entry.after) for entry in served.repository.history(live)] == [
        ("publish", 1),
        ("publish", 2),
        ("canary", 2),
        ("promote", 2),
    ]
    assert served.repository.history(live)[1].why == "weekly"
    assert report.state == (
        f"{live}: version 2 is live; `tamiz rollback {live} --repository {served.repository.path} "
        f"--url {served.triton.url}` takes it back"
    )
    document = report.to_dict()
    assert document["watch"]["outcome"] == "promoted"
    assert document["gate"]["verdict"] == "passed"
    assert [step["state"] for step in document["steps"]] == ["done"] * 6


def test_a_version_that_answers_otherwise_than_the_live_one_is_rolled_back(
    served: Served, run: Run, plan: Callable[..., ReleasePlan]
) -> None:
    """The live version is the wrong one here; that they differ is all that a watch can see."""
    name = served.new_name()
    shape = run.spec.preprocessing
    spec = make_spec(list(run.spec.labels), height=shape.height, width=shape.width, colour=shape.colour)
    served.repository.publish(name, write_grey_graph(served.folder / f"{name}.onnx", spec), spec)
    served.control.load(name)
    report = Watcher().carry_out(plan(name))
    assert report.outcome == "rolled back"
    assert [step.state for step in report.steps] == ["done"] * 4 + ["failed", "waiting"]
    assert "was rolled back after" in report.steps[4].text
    assert loaded(served, name) == [1]
    assert served.repository.rollout(name) is None
    assert f"version 1 is live, and version 2 is published and not live; `tamiz promote {name} 2" in report.state


def test_serving_settings_of_the_recipe_come_with_the_promotion_and_not_before(
    served: Served, live: str, plan: Callable[..., ReleasePlan]
) -> None:
    other = plan(live).run.recipe.serving.model_copy(update={"max_batch_size": 3})
    apply_settings(served.repository, live, other, control=served.control)
    planned = plan(live, apply_serving=True)
    assert "serving settings" not in planned.describe("publish")
    assert planned.describe("promote").endswith(", with the serving settings of the recipe")
    with pytest.raises(KeyboardInterrupt):
        Watcher(at="promote").carry_out(planned)
    assert served.repository.config(live).max_batch_size == 3
    rollback(served.repository, live, control=served.control)
    assert served.repository.config(live).max_batch_size == 3
    assert Watcher().carry_out(plan(live, apply_serving=True)).outcome == "live"
    assert served.repository.config(live).max_batch_size == planned.run.recipe.serving.max_batch_size
    assert loaded(served, live) == [3]


def test_a_run_that_fails_the_gate_is_not_published(
    served: Served, live: str, plan: Callable[..., ReleasePlan]
) -> None:
    watcher = Watcher()
    with pytest.raises(GateError, match="nothing was published: the gate failed"):
        watcher.carry_out(plan(live, limits=GateLimits(probability_difference=0.0)))
    assert [step.state for step in watcher.steps] == ["running", "done", "running", "failed"]
    assert watcher.lines[-1] == f"{live}: nothing was published; version 1 is live"
    assert served.repository.version_numbers(live) == [1]
    assert [entry.what for entry in served.repository.history(live)] == ["publish"]


def test_a_run_that_fails_the_gate_is_published_with_a_reason(
    served: Served, run: Run, plan: Callable[..., ReleasePlan]
) -> None:
    name = served.new_name()
    report = Watcher().carry_out(plan(name, limits=GateLimits(probability_difference=0.0), force="a trial"))
    assert (report.outcome, report.gate.verdict) == ("live", "forced: a trial")
    assert [step.name for step in report.steps] == ["export", "gate", "publish"]
    assert loaded(served, name) == [1]


def test_without_a_server_the_version_goes_live_on_disk(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    first = carry_out(plan_release(run, repository, precision="fp32"))
    assert (first.outcome, first.version, first.watch) == ("live", 1, None)
    assert first.state == "digits: version 1 is live"
    second = carry_out(plan_release(run, repository, precision="fp32"))
    assert (second.outcome, second.version) == ("live", 2)
    assert [step.name for step in second.steps] == ["export", "gate", "publish", "promote"]
    assert repository.live_version("digits").version == 2


def test_a_damaged_archived_version_does_not_end_a_release(run: Run, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    for _ in range(2):
        Watcher().carry_out(plan_release(run, repository, model="pets", precision="fp32"))
    (repository.path / "pets" / "1" / "manifest.json").write_text("{")
    report = Watcher().carry_out(plan_release(run, repository, model="pets", precision="fp32"))
    assert (report.outcome, report.version) == ("live", 3)
    assert report.state.startswith("pets: version 3 is live; ")


def test_what_the_export_chose_is_what_the_gate_limits_and_what_the_configuration_has(run: Run, tmp_path: Path) -> None:
    """The search is made to find INT8 in OpenVINO, which not every machine has; hence the reason to publish it."""
    export_precision(run, "auto", budget_s=20)
    reports = json.loads((run.path / "precision.json").read_text())
    accelerators = {"cpu_execution_accelerator": [{"name": "openvino"}]}
    found = {"precision": "int8", "runtime": "openvino", "accelerators": accelerators}
    found |= {key: reports["int8"][key] for key in ("file", "sha256")}
    (run.path / "precision.json").write_text(json.dumps(reports | {"auto": reports["auto"] | found}))
    watcher = Watcher()
    repository = Repository(tmp_path / "repository")
    report = watcher.carry_out(plan_release(run, repository, budget_s=20, force="a trial"))
    assert (report.plan.precision, report.plan.accelerators) == ("int8", accelerators)
    assert not any("INT8 of all operators" in line for line in watcher.lines), "the run is not searched again"
    assert report.steps[0].text.endswith("int8 in openvino: the fastest that passes")
    assert "accuracy_drop 0.005" in next(step.text for step in watcher.steps if step.name == "gate")
    document = report.to_dict()
    assert document["gate"]["limits"]["accuracy_drop"] == 0.005
    assert document["gate"]["limits"]["label_agreement"] is None
    assert document["gate"]["accelerators"] == accelerators
    (accelerator,) = repository.config("digits").optimization.execution_accelerators.cpu_execution_accelerator
    assert accelerator.name == "openvino"


def test_a_choice_that_fails_the_gate_is_told_with_the_way_out(run: Run, tmp_path: Path) -> None:
    export_precision(run, "auto", budget_s=20)
    reports = json.loads((run.path / "precision.json").read_text())
    found = {"precision": "int8", **{key: reports["int8"][key] for key in ("file", "sha256")}}
    (run.path / "precision.json").write_text(json.dumps(reports | {"auto": reports["auto"] | found}))
    watcher = Watcher()
    limits = GateLimits(probability_difference=0.0)
    with pytest.raises(GateError):
        watcher.carry_out(plan_release(run, Repository(tmp_path / "repository"), budget_s=20, limits=limits))
    assert watcher.lines[-2:] == [
        "auto chose int8; --precision fp32 releases the run without a loss of precision",
        "digits: nothing was published",
    ]


@pytest.mark.parametrize(
    ("step", "state"),
    [
        ("export", "nothing was published; version 1 is live"),
        ("gate", "nothing was published; version 1 is live"),
        ("publish", "nothing was published; version 1 is live"),
        ("canary", "version 1 is live, and version 2 is published and not live; `tamiz promote"),
        ("watch", "version 1 is live, and version 2 is a canary; end it with `tamiz rollback"),
        ("promote", "version 1 is live, and version 2 is a canary; end it with `tamiz rollback"),
    ],
)
def test_an_interrupt_leaves_what_was_done_and_says_what_it_is(
    step: str, state: str, served: Served, live: str, plan: Callable[..., ReleasePlan]
) -> None:
    watcher, made = Watcher(at=step), plan(live)
    with pytest.raises(KeyboardInterrupt):
        watcher.carry_out(made)
    assert (watcher.steps[-1].name, watcher.steps[-1].state) == (step, "interrupted")
    assert watcher.lines[-1].startswith(f"{live}: {state}")
    assert loaded(served, live) == served.repository.loaded_numbers(live)
    assert (served.repository.rollout(live) is None) == (step not in ("watch", "promote"))
    assert describe_state(made) == watcher.lines[-1]


def test_a_server_that_cannot_load_the_version_leaves_it_published_and_the_live_one_live(
    served: Served, live: str, plan: Callable[..., ReleasePlan]
) -> None:
    watcher, made = Watcher(), plan(live)
    folder = served.repository.path / live

    def ruin(step: ReleaseStep) -> None:
        watcher.on_step(step)
        if (step.name, step.state) == ("publish", "done"):
            (folder / "2" / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(RepositoryError, match="the server could not load the change; the change was undone"):
        carry_out(made, on_step=ruin, on_progress=watcher.lines.append)
    assert [step.state for step in watcher.steps][-1] == "failed"
    assert re.search(r"version 1 is live, and version 2 is published and not live", watcher.lines[-1])
    assert loaded(served, live) == [1]
