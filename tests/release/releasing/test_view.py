"""The view of a release, with plain lines and on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tamiz_release.gate import GateLimits
from tamiz_release.releasing.plan import ReleasePlan
from tamiz_release.releasing.steps import ReleaseStep
from tamiz_release.releasing.view import ReleaseView
from tamiz_server.repository import Repository
from tamiz_train.run import Run


@pytest.fixture
def plan() -> ReleasePlan:
    return ReleasePlan(
        run=Run(Path("runs/digits/1")),
        repository=Repository("model_repository"),
        model="digits",
        precision="fp32",
        version=2,
        live=1,
        is_new=False,
        limits=GateLimits(),
        canary=None,
        why_no_canary="none was asked for",
    )


def render(view: ReleaseView) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(view.table())
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_without_a_terminal_each_step_is_a_line_when_it_begins_and_when_it_ends(
    plan: ReleasePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReleaseView(plan, on_terminal=False) as view:
        view.on_step(ReleaseStep("publish", "running", text="digits version 2 in model_repository"))
        view.line("published digits version 2")
        view.on_step(ReleaseStep("publish", "done", 0.21, "digits version 2"))
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "[3/4] publish: digits version 2 in model_repository",
        "published digits version 2",
        "[3/4] publish: done after 0.2 s: digits version 2",
    ]
    assert captured.err == ""


def test_on_a_terminal_the_steps_stand_in_a_table_with_their_states_and_times(
    plan: ReleasePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReleaseView(plan, on_terminal=True) as view:
        view.on_step(ReleaseStep("export", "done", 3.04, "model.onnx, 0.2 MB"))
        view.on_step(ReleaseStep("gate", "failed", 1.0, "labels are swapped"))
        assert render(view) == [
            "export done 3.0 s model.onnx, 0.2 MB",
            "gate failed 1.0 s labels are swapped",
            "publish waiting digits version 2 in model_repository",
            "promote waiting version 2 goes live instead of version 1 in model_repository",
        ]
    assert "labels are swapped" in capsys.readouterr().err


def test_the_time_of_a_running_step_goes_on(plan: ReleasePlan) -> None:
    times = iter([10.0, 12.0, 15.5])
    view = ReleaseView(plan, on_terminal=False, clock=lambda: next(times))
    view.on_step(ReleaseStep("export", "running", text="searched"))
    assert render(view)[0] == "export running 2.0 s searched"
    assert render(view)[0].startswith("export running 5.5 s")


def test_a_text_cannot_change_the_terminal(plan: ReleasePlan) -> None:
    view = ReleaseView(plan, on_terminal=False)
    view.on_step(ReleaseStep("gate", "failed", 1.0, "[red]\x1b[2J\nmore"))
    assert "[red]\\x1b[2J\\nmore" in render(view)[1]
