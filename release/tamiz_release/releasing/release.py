"""A release in one go: a plan carried out step by step.

Whatever stops a release, what is served is either as it was or complete: each step is done or not, and the repository
says which: see `tamiz_release.releasing.state`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tamiz.arguments import check_function, check_instance, check_progress
from tamiz.errors import GateError, TamizError
from tamiz.preprocessing import ImageSource
from tamiz_server.promotion import promote
from tamiz_server.rollout import start_rollout

from ..candidate import Candidate
from ..gate import GateImages, GateReport, find_live, run_images
from ..publication import PublishedVersion
from ..publication_options import PublicationOptions
from ..registry import synchronise
from ..rollout.watch import WatchReport, watch
from ..run_publication import publish_run
from .canary import require_canary_fits
from .plan import ReleasePlan
from .state import describe_state
from .steps import ReleaseStep, ReleaseSteps

Outcome: TypeAlias = Literal["live", "published", "rolled back", "kept", "ended"]


@dataclass(frozen=True)
class ReleaseReport:
    """What a release has done.

    Attributes:
        plan: what was planned, with the precision that the export chose.
        version: number of the published version.
        outcome: ``live``; ``rolled back`` because of a breach; ``kept`` as a canary, because the watch saw too few
            requests; ``ended`` if somebody else ended the canary meanwhile; ``published``, and not live, if somebody
            else published the first version of the model meanwhile.
        steps: the steps with their times.
        seconds: how long it took.
        gate: the verdict of the gate.
        watch: what the watch saw; None without one.
        state: what is live now, in one line.
    """

    plan: ReleasePlan
    version: int
    outcome: Outcome
    steps: tuple[ReleaseStep, ...]
    seconds: float
    gate: GateReport
    watch: WatchReport | None
    state: str

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON: the keys of the plan, with what has become of it."""
        return {
            **self.plan.to_dict(),
            "version": self.version,
            "outcome": self.outcome,
            "steps": [step.to_dict() for step in self.steps],
            "seconds": round(self.seconds, 3),
            "gate": self.gate.to_dict(),
            "watch": None if self.watch is None else self.watch.to_dict(),
            "state": self.state,
        }


def carry_out(
    plan: ReleasePlan,
    *,
    on_step: Callable[[ReleaseStep], None] = lambda step: None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> ReleaseReport:
    """Carry out the plan of a release.

    A run that fails the gate is not published. A canary that is beyond a limit during the watch is rolled back. Any
    error and an interrupt (Ctrl-C) end the release after a last line that says what is published and what is live.

    Args:
        plan: the plan, from `plan_release`.
        on_step: called with each step when it begins and when it ends.
        on_progress: called with lines of text.

    Returns:
        what was done; a rollback is an outcome and no error.

    Raises:
        ExportError: the network cannot be exported, or the graph computes something else.
        GateError: the graph failed the gate, and the plan does not force it.
        RunError: the weights cannot be loaded; or the images of the run cannot be found.
        OutputError: the folder of the run cannot be written.
        RepositoryError: the repository cannot be changed, or the server rejected the version.
        ServerError: the server does not answer, or rejects the key.
    """
    check_instance("plan", plan, ReleasePlan)
    check_function("on_step", on_step, "a function that takes a step")
    check_progress(on_progress)
    steps = ReleaseSteps(plan.steps, on_step)
    began = time.monotonic()
    try:
        plan, published, gate, images = _publish(plan, steps, on_progress)
        watched = None
        if plan.canary is not None:
            watched = _try_canary(plan, published.version, images, steps, on_progress)
        elif not plan.is_new:
            _promote(plan, published.version, steps)
        if not plan.is_new:
            # A first version was registered as the live one when it was published.
            synchronise(plan.repository, plan.model, on_progress=on_progress)
    except BaseException as exc:
        interrupted = isinstance(exc, KeyboardInterrupt)
        steps.end("interrupted" if interrupted else str(exc), "interrupted" if interrupted else "failed")
        with contextlib.suppress(TamizError):
            on_progress(describe_state(plan))
        raise
    return ReleaseReport(
        plan=plan,
        version=published.version,
        outcome=_outcome(published, watched, is_new=plan.is_new),
        steps=steps.list(),
        seconds=time.monotonic() - began,
        gate=gate,
        watch=watched,
        state=describe_state(plan),
    )


def _publish(
    plan: ReleasePlan, steps: ReleaseSteps, on_progress: Callable[[str], None]
) -> tuple[ReleasePlan, PublishedVersion, GateReport, GateImages]:
    """Export, gate and publish; the plan that is returned has the precision that was exported."""
    decided: list[ReleasePlan] = []
    verdicts: list[GateReport] = []

    def on_exported(candidate: Candidate) -> None:
        decided.append(plan.decided(candidate))
        if plan.canary is not None and plan.live is not None:
            place = (plan.repository, plan.model, plan.live, plan.version)
            require_canary_fits(*place, candidate.spec, candidate.accelerators)
        steps.end(_describe_exported(candidate))
        steps.begin("gate", decided[0].describe("gate"))

    def on_passed(report: GateReport) -> None:
        verdicts.append(report)
        steps.end(report.summary()[0])
        steps.begin("publish", plan.describe("publish"))

    steps.begin("export", plan.describe("export"))
    images = run_images(plan.run) if plan.images is None else plan.images
    try:
        published = publish_run(
            plan.run,
            plan.repository,
            options=PublicationOptions(
                limits=plan.limits,
                force=plan.force,
                apply_serving=plan.apply_serving,
                serving_later=True,
                control=plan.control,
                reason=plan.reason,
            ),
            model=plan.model,
            precision=plan.precision,
            budget_s=plan.budget_s,
            max_loss_points=plan.max_loss_points,
            runtimes=plan.runtimes,
            images=images,
            on_exported=on_exported,
            on_passed=on_passed,
            on_progress=on_progress,
        )
    except GateError:
        if decided[0].precision != plan.precision:
            on_progress(
                f"auto chose {decided[0].precision}; --precision fp32 releases the run without a loss of precision"
            )
        raise
    steps.end(f"{plan.model} version {published.version}" + (", live" if published.live == published.version else ""))
    return decided[0], published, verdicts[0], images


def _describe_exported(candidate: Candidate) -> str:
    text = f"{candidate.graph}, {candidate.graph.stat().st_size / 1e6:.1f} MB"
    choice = candidate.manifest.get("precision_choice")
    return text if choice is None else f"{text}, {choice['precision']} in {choice['runtime']}: the fastest that passes"


def _promote(plan: ReleasePlan, version: int, steps: ReleaseSteps) -> None:
    steps.begin("promote", plan.describe("promote"))
    promote(
        plan.repository, plan.model, version, control=plan.control, reason=plan.reason, settings=plan.applied_settings
    )
    steps.end(f"version {version} is live")


def _try_canary(
    plan: ReleasePlan,
    version: int,
    images: GateImages,
    steps: ReleaseSteps,
    on_progress: Callable[[str], None],
) -> WatchReport:
    """Start a canary, watch it, and promote it."""
    assert plan.canary is not None
    assert plan.control is not None
    probes = _probe_images(plan, images, on_progress)
    steps.begin("canary", plan.describe("canary"))
    start_rollout(
        plan.repository,
        plan.model,
        version,
        canary=plan.canary.share,
        control=plan.control,
        reason=plan.reason,
        replace=False,
    )
    steps.end(f"version {version} answers {plan.canary.share:.4g} of the calls")
    steps.begin("watch", plan.describe("watch"))

    def on_promote(text: str) -> None:
        steps.end(text)
        steps.begin("promote", plan.describe("promote"))

    watched = watch(
        plan.repository,
        plan.model,
        control=plan.control,
        watch_s=plan.canary.watch_s,
        limits=plan.canary.limits,
        images=probes,
        probes_per_s=plan.canary.probes_per_s,
        then_promote=True,
        settings=plan.applied_settings,
        on_promote=on_promote,
        on_progress=on_progress,
    )
    if watched.outcome == "promoted":
        steps.end(f"version {version} is live")
    else:
        steps.end(watched.text, "failed")
    return watched


def _probe_images(plan: ReleasePlan, images: GateImages, on_progress: Callable[[str], None]) -> Sequence[ImageSource]:
    """The images of the gate that neither version was trained on; none if there are none."""
    live = find_live(plan.repository, plan.model, [])
    fitted = (plan.run.fitted_images or frozenset()) | ((live and live.fitted) or frozenset())
    unseen = images.spread_unseen(plan.limits.images, fitted)[0].images.images
    if not unseen:
        on_progress("the probes of the watch are random pixels, and answers are not compared: there are no images")
    return unseen


def _outcome(published: PublishedVersion, watched: WatchReport | None, *, is_new: bool) -> Outcome:
    if watched is None:
        return "published" if is_new and published.live != published.version else "live"
    return "live" if watched.outcome == "promoted" else watched.outcome
