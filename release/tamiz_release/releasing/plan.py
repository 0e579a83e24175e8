"""The plan of a release: which steps it has, and what each of them would do. Making one changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from tamiz.arguments import check_choice, check_flag, check_instance, check_number, check_seconds, check_text
from tamiz.errors import RepositoryError
from tamiz_server.change import ready_versions
from tamiz_server.control import Control
from tamiz_server.history import check_reason
from tamiz_server.promotion import require_promoted_live
from tamiz_server.repository import Repository
from tamiz_server.rollout import require_fit
from tamiz_train.run import Run

from ..candidate import Candidate
from ..gate import GateImages, GateLimits
from ..gate.limits import DEFAULT_LIMITS
from ..precision.export import BUDGET_S, Precision, graph_path
from ..rollout.judge import WatchLimits
from ..rollout.watch import PROBES_PER_S
from .steps import StepName


@dataclass(frozen=True)
class CanarySettings:
    """How a version is tried beside the live one before it is promoted.

    Attributes:
        share: the share of the calls that it answers, above 0 and at most 1.
        watch_s: seconds to watch it.
        limits: when it is rolled back.
        probes_per_s: number of probes a second; see `tamiz_release.watch`.

    Raises:
        UsageError: a value is outside of its range.
    """

    share: float = 0.1
    watch_s: float = 600.0
    limits: WatchLimits = field(default_factory=WatchLimits)
    probes_per_s: float = PROBES_PER_S

    def __post_init__(self) -> None:
        check_number("share", self.share, "a share of the calls above 0 and at most 1", above=0, below=1 + 1e-9)
        check_seconds("watch_s", self.watch_s)
        check_instance("limits", self.limits, WatchLimits)
        check_number("probes_per_s", self.probes_per_s, "a number from 0 to 1,000", above=-1e-9, below=1_000 + 1e-9)


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would do; `plan_release` makes one, and `carry_out` carries it out.

    Attributes:
        run: the run that is released.
        repository: the model repository; it may not exist yet.
        model: name of the model.
        precision: precision of the exported graph.
        version: number of the version that would be published.
        live: number of the live version; None if the model is new, or none of its versions is live.
        is_new: whether it would be the first version of the model, which goes live when it is published.
        limits: the limits of the gate, with the defaults of the precision.
        canary: how the version is tried before it is promoted; None goes live without that.
        why_no_canary: why there is no canary; empty if there is one.
        budget_s: time budget of the search for an INT8 or FP16 graph in seconds.
        images: the images of the gate and of the probes; None for held-out images of the run.
        force: why the version is published even if it fails the gate; None publishes nothing then.
        apply_serving: whether the serving settings of the recipe replace those of the published model.
        reason: why, for the history of the model.
        control: the control of the running server of the repository; None changes the disk only.
    """

    run: Run
    repository: Repository
    model: str
    precision: Precision
    version: int
    live: int | None
    is_new: bool
    limits: GateLimits
    canary: CanarySettings | None
    why_no_canary: str
    budget_s: float = BUDGET_S
    images: GateImages | None = None
    force: str | None = None
    apply_serving: bool = False
    reason: str = ""
    control: Control | None = None

    @property
    def graph(self) -> Path:
        """Path of the graph that is exported."""
        return graph_path(self.run, self.precision)

    @property
    def steps(self) -> tuple[StepName, ...]:
        """The names of the steps, in their order."""
        if self.is_new:
            return ("export", "gate", "publish")
        if self.canary is None:
            return ("export", "gate", "publish", "promote")
        return ("export", "gate", "publish", "canary", "watch", "promote")

    def describe(self, step: StepName) -> str:
        """What a step would do, in one line."""
        return {
            "export": self._describe_export,
            "gate": self._describe_gate,
            "publish": self._describe_publish,
            "canary": self._describe_canary,
            "watch": self._describe_watch,
            "promote": self._describe_promote,
        }[step]()

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "run": str(self.run.path),
            "model": self.model,
            "repository": str(self.repository.path),
            "precision": self.precision,
            "graph": str(self.graph),
            "version": self.version,
            "live": self.live,
            "server": None if self.control is None else self.control.url,
            "limits": self.limits.model_dump(),
            "canary": None if self.canary is None else asdict(self.canary),
            "why_no_canary": self.why_no_canary,
            "force": self.force,
            "apply_serving": self.apply_serving,
            "steps": [{"name": step, "text": self.describe(step)} for step in self.steps],
        }

    def _describe_export(self) -> str:
        return f"{self.run.path} to {self.graph.name}, {self.precision}"

    def _describe_gate(self) -> str:
        images = "held-out images of the run" if self.images is None else f"{len(self.images):,} {self.images.origin}"
        limits = ", ".join(
            f"{name} {value:g}"
            for name, value in self.limits.model_dump().items()
            if value is not None and name != "images"
        )
        beside = "" if self.live is None else f", beside the live version {self.live}"
        forced = "" if self.force is None else f"; published even if it fails: {self.force}"
        return f"on at most {self.limits.images:,} {images}{beside}; limits: {limits}{forced}"

    def _describe_publish(self) -> str:
        live = "; it is the first version, so it goes live at once" if self.is_new else ""
        settings = ", with the serving settings of the recipe" if self.apply_serving else ""
        loaded = f", loaded by {self.control.url}" if self.is_new and self.control is not None else ""
        return f"{self.model} version {self.version} in {self.repository.path}{settings}{live}{loaded}"

    def _describe_canary(self) -> str:
        assert self.canary is not None
        assert self.control is not None
        return f"{self.canary.share:.4g} of the calls, beside version {self.live} on {self.control.url}"

    def _describe_watch(self) -> str:
        assert self.canary is not None
        limits = self.canary.limits
        return (
            f"{self.canary.watch_s:g} s, {self.canary.probes_per_s:g} probes a second; rolled back if errors are "
            f"{limits.errors:.2%} above those of version {self.live}, latency is {limits.latency:g} times as large, or "
            f"less than {limits.agreement:.0%} of the answers agree"
        )

    def _describe_promote(self) -> str:
        where = f"{self.repository.path}" + ("" if self.control is None else f" and {self.control.url}")
        instead = "" if self.live is None else f" instead of version {self.live}"
        return f"version {self.version} goes live{instead} in {where}"


def plan_release(
    run: Run,
    repository: Repository,
    *,
    model: str | None = None,
    precision: Precision = "fp32",
    budget_s: float = BUDGET_S,
    images: GateImages | None = None,
    limits: GateLimits = DEFAULT_LIMITS,
    force: str | None = None,
    apply_serving: bool = False,
    canary: CanarySettings | None = CanarySettings(),
    control: Control | None = None,
    reason: str = "",
) -> ReleasePlan:
    """Plan the release of a run, and find what would stop it before anything is changed.

    Args:
        run: a finished run.
        repository: the model repository; it may not exist yet.
        model: name of the model. Default: the name of the recipe.
        precision: precision of the exported graph.
        budget_s: time budget of the search for an INT8 or FP16 graph, in seconds.
        images: the images on which the gate measures, and with which the canary is probed. Default: held-out images of
            the run; see `tamiz_release.gate.run_images`.
        limits: the limits of the gate.
        force: why the version is published even if it fails the gate; None publishes nothing then.
        apply_serving: whether the serving settings of the recipe replace those of the published model.
        canary: how the version is tried beside the live one before it is promoted; None promotes it without. There is
            none in any case for the first version of a model, and without a server.
        control: a running server of this repository, which follows each change.
        reason: why, for the history of the model.

    Raises:
        UsageError: an argument is wrong.
        RepositoryError: the repository cannot be read; the model has a canary or shadow already; the version cannot be
            a canary beside the live one; or the server does not serve what is live in the repository.
        ServerError: the server does not answer, or rejects the key.
        RunError: the run cannot be read.
    """
    check_instance("run", run, Run)
    check_instance("repository", repository, Repository)
    check_instance("images", images, GateImages, optional=True)
    check_instance("limits", limits, GateLimits)
    check_instance("canary", canary, CanarySettings, optional=True)
    check_instance("control", control, Control, optional=True)
    check_choice("precision", precision, get_args(Precision))
    check_seconds("budget_s", budget_s)
    check_flag("apply_serving", apply_serving)
    check_reason(reason)
    if force is not None:
        check_text("force", force, "the reason, or None")
    name = run.recipe.name if model is None else model
    version = repository.next_version(name)
    is_new = not repository.path.is_dir() or name not in repository.models()
    numbers = [] if is_new else repository.live_numbers(name)
    if not is_new:
        _require_no_rollout(repository, name)
        if control is not None:
            _require_served(repository, name, control)
    live = numbers[-1] if numbers else None
    why_no_canary = explain_no_canary(
        is_new=is_new, live=live, has_server=control is not None, wanted=canary is not None
    )
    plan = ReleasePlan(
        run=run,
        repository=repository,
        model=name,
        precision=precision,
        version=version,
        live=live,
        is_new=is_new,
        limits=limits.of_precision(precision),
        canary=None if why_no_canary else canary,
        why_no_canary=why_no_canary,
        budget_s=budget_s,
        images=images,
        force=force,
        apply_serving=apply_serving,
        reason=reason,
        control=control,
    )
    if plan.canary is not None:
        require_promoted_live(name, repository.config(name), numbers)
        require_canary_fits(plan, Candidate(plan.graph, run.spec, precision))
    return plan


def explain_no_canary(*, is_new: bool, live: int | None, has_server: bool, wanted: bool) -> str:
    """Why a version cannot be, or is not to be, a canary; empty if it will be one.

    Args:
        is_new: whether it is the first version of the model.
        live: number of the live version; None if there is none.
        has_server: whether the release has the control of a running server.
        wanted: whether a canary is wanted.
    """
    if is_new:
        return "no canary: it is the first version of the model, which goes live when it is published"
    if live is None:
        return "no canary: no version is live beside which it could be tried"
    if not has_server:
        return (
            "no canary: no running server was given, so the version goes live on disk without being tried; pass the "
            "server's --url to have it watched first"
        )
    return "" if wanted else "no canary: none was asked for, so the version goes live without being tried"


def require_canary_fits(plan: ReleasePlan, candidate: Candidate) -> None:
    """Check that a candidate can be loaded beside the live version.

    Raises:
        RepositoryError: it cannot.
    """
    if plan.canary is None or plan.live is None:
        return
    try:
        require_fit(plan.repository, plan.model, plan.live, plan.version, candidate.spec, candidate.accelerators)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}; release it with --no-canary") from exc


def _require_no_rollout(repository: Repository, model: str) -> None:
    rollout = repository.rollout(model)
    if rollout is not None:
        kind = "canary" if rollout.canary else "shadow"
        raise RepositoryError(
            f"model {model}: version {rollout.version} is a {kind}, which a release would end; end it first, with "
            f"`tamiz rollback {model}` or `tamiz promote {model} {rollout.version}`"
        )


def _require_served(repository: Repository, model: str, control: Control) -> None:
    """Check that the server serves what is live on disk; otherwise a release would fail when it has published."""
    expected, served = repository.loaded_numbers(model), ready_versions(control, model)
    if served != expected:
        has, wants = (_name(numbers) for numbers in (served, expected))
        raise RepositoryError(
            f"{control.url} does not serve {repository.path}: the server has {has} of {model}, and {wants} is live on "
            f"disk; if it is the server of this repository, have it follow: `tamiz promote {model} "
            f"{expected[-1] if expected else 'VERSION'} --url {control.url}`"
        )


def _name(numbers: Sequence[int]) -> str:
    return f"version {', '.join(map(str, numbers))}" if numbers else "no version"
