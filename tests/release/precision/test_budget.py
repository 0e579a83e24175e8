"""The time budget of a search, with a clock that the tests move."""

from __future__ import annotations

from tamiz_release.precision.budget import Budget, Step


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(seconds: float) -> tuple[Budget, Clock]:
    clock = Clock()
    return Budget(seconds, clock), clock


def take(budget: Budget, clock: Clock, kind: Step, seconds: float, count: int = 1) -> None:
    with budget.step(kind, count):
        clock.now += seconds


def test_a_step_that_was_never_taken_is_begun_while_there_is_time() -> None:
    budget, clock = make(10)
    assert budget.fits(speeds=1000, losses=1000)
    clock.now += 10
    assert budget.spent == 10
    assert not budget.fits()


def test_a_step_is_begun_if_the_steps_before_say_that_it_ends_in_time() -> None:
    budget, clock = make(400)
    take(budget, clock, "losses", 60)
    assert budget.fits(losses=5)
    assert not budget.fits(losses=6)
    take(budget, clock, "losses", 40)
    # 50 s each on average, and 300 s are left.
    assert budget.fits(losses=6)
    assert not budget.fits(losses=7)


def test_graphs_whose_speeds_are_compared_share_the_measurement_of_fp32() -> None:
    budget, clock = make(100)
    take(budget, clock, "speeds", 20)
    # 10 s for each graph, FP32 included, and 80 s are left.
    assert budget.fits(speeds=7)
    assert not budget.fits(speeds=8)
    assert not budget.fits(speeds=6, losses=1, share=0.8)
    take(budget, clock, "losses", 15)
    assert budget.fits(speeds=4, losses=1)
    assert not budget.fits(speeds=5, losses=1)


def test_steps_may_be_kept_within_a_share_of_the_budget() -> None:
    budget, clock = make(100)
    take(budget, clock, "losses", 20)
    assert budget.fits(losses=1, share=0.5)
    assert not budget.fits(losses=2, share=0.5)


def test_what_was_left_out_is_noted_once() -> None:
    budget, _ = make(1)
    for text in ("all Clip in FP32", "all Add in FP32", "all Clip in FP32"):
        budget.leave_out(text)
    assert budget.left_out == ["all Clip in FP32", "all Add in FP32"]
