"""The steps of a release in memory."""

from __future__ import annotations

from tamiz_release.releasing.steps import ReleaseStep, ReleaseSteps


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_is_told_when_it_begins_and_when_it_ends_with_its_time() -> None:
    clock, told = Clock(), []
    steps = ReleaseSteps(("export", "gate"), told.append, clock)
    steps.begin("export", "what export does")
    clock.now += 2.5
    steps.end("model.onnx")
    assert told == [
        ReleaseStep("export", "running", text="what export does"),
        ReleaseStep("export", "done", 2.5, "model.onnx"),
    ]
    assert steps.list() == (told[1], ReleaseStep("gate"))


def test_a_step_that_fails_keeps_its_reason_and_those_after_it_wait() -> None:
    clock = Clock()
    steps = ReleaseSteps(("export", "gate", "publish"), clock=clock)
    steps.begin("export", "what export does")
    steps.end("done")
    steps.begin("gate", "what gate does")
    clock.now += 1
    steps.end("labels are swapped", "failed")
    assert [step.state for step in steps.list()] == ["done", "failed", "waiting"]
    assert steps.list()[1] == ReleaseStep("gate", "failed", 1.0, "labels are swapped")


def test_an_end_between_two_steps_changes_nothing() -> None:
    told: list[ReleaseStep] = []
    steps = ReleaseSteps(("export", "gate"), told.append)
    steps.begin("export", "what export does")
    steps.end("done")
    steps.end("interrupted", "interrupted")
    assert [step.state for step in steps.list()] == ["done", "waiting"]
    assert len(told) == 2
