"""The plan of a release: which steps it has, and what each of them would do. Making one changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from tamiz.arguments import check_choice, check_flag, check_instance, check_seconds, check_text
from tamiz.errors import RepositoryError
from tamiz_server.change import ready_versions
from tamiz_server.config import ServingSettings
from tamiz_server.control import Control
from tamiz_server.history import check_reason
from tamiz_server.promotion import require_promoted_live
from tamiz_server.repository import Repository
from tamiz_server.rollout import require_no_rollout
from tamiz_server.version import name_versions
from tamiz_train.run import Run

from ..candidate import Candidate
from ..gate import GateImages, GateLimits
from ..gate.limits import DEFAULT_LIMITS
from ..precision.auto import RUNTIME_NAMES, RuntimeName
from ..precision.defaults import BUDGET_S, MAX_LOSS_POINTS
from ..precision.export import Precision, WantedPrecision, check_max_loss, graph_path
from .canary import DEFAULT_CANARY, CanarySettings, explain_no_canary, fitting_runtimes, require_canary_fits
from .steps import StepName


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would do; `plan_release` makes one, and `carry_out` carries it out.

    Attributes:
        run: the run that is released.
        repository: the model repository; it may not exist yet.
        model: name of the model.
        precision: precision of the exported graph; ``auto`` until the export has chosen one.
        version: number of the version that would be published.
        live: number of the live version; None if the model is new, or none of its versions is live.
        is_new: whether it would be the first version of the model, which goes live when it is published.
        limits: the limits of the gate, with the defaults of the precision once it is known.
        canary: how the version is tried before it is promoted; None goes live without that.
        why_no_canary: why there is no canary; empty if there is one.
        budget_s: time budget of the search for a graph of lower precision, in seconds.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose, in points.
        runtimes: names of the runtimes among which ``auto`` chooses: those whose versions the server can load beside
            the live one, if there is a canary.
        accelerators: what computes the graph, once it is exported; see `tamiz_release.Candidate`.
        images: the images of the gate and of the probes; None for held-out images of the run.
        force: why the version is published even if it fails the gate; None publishes nothing then.
        apply_serving: whether the serving settings of the recipe replace those of the published model when the version
            is promoted.
        reason: why, for the history of the model.
        control: the control of the running server of the repository; None changes the disk only.
    """

    run: Run
    repository: Repository
    model: str
    precision: WantedPrecision
    version: int
    live: int | None
    is_new: bool
    limits: GateLimits
    canary: CanarySettings | None
    why_no_canary: str
    budget_s: float = BUDGET_S
    max_loss_points: float = MAX_LOSS_POINTS
    runtimes: tuple[RuntimeName, ...] = RUNTIME_NAMES
    accelerators: Mapping[str, Any] = field(default_factory=dict)
    images: GateImages | None = None
    force: str | None = None
    apply_serving: bool = False
    reason: str = ""
    control: Control | None = None

    @property
    def graph(self) -> Path | None:
        """Path of the graph that is exported; None until ``auto`` has chosen one."""
        return None if self.precision == "auto" else graph_path(self.run, self.precision)

    def decided(self, candidate: Candidate) -> ReleasePlan:
        """The plan of the steps after the export, with the precision, accelerators and limits of what was exported."""
        return replace(
            self,
            precision=cast("Precision", candidate.precision),
            accelerators=candidate.accelerators,
            limits=self.limits.of_precision(candidate.precision),
        )

    @property
    def applied_settings(self) -> ServingSettings | None:
        """The serving settings that the promotion writes into the configuration; None keeps those that are there."""
        return self.run.recipe.serving if self.apply_serving else None

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
            "accelerators": dict(self.accelerators),
            "graph": None if self.graph is None else str(self.graph),
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
        if self.graph is not None:
            return f"{self.run.path} to {self.graph.name}, {self.precision}"
        return (
            f"{self.run.path}, auto: the fastest precision that passes, in {' or '.join(self.runtimes)}; decided at "
            f"export, within {self.budget_s:g} s"
        )

    def _describe_gate(self) -> str:
        images = "held-out images of the run" if self.images is None else f"{len(self.images):,} {self.images.origin}"
        limits = ", ".join(
            f"{name} {value:g}"
            for name, value in self.limits.model_dump().items()
            if value is not None and name != "images"
        )
        beside = "" if self.live is None else f", beside the live version {self.live}"
        forced = "" if self.force is None else f"; published even if it fails: {self.force}"
        of_precision = "" if self.graph is not None else ", and those of the precision"
        return f"on at most {self.limits.images:,} {images}{beside}; limits: {limits}{of_precision}{forced}"

    def _describe_publish(self) -> str:
        live = "; it is the first version, so it goes live at once" if self.is_new else ""
        loaded = f", loaded by {self.control.url}" if self.is_new and self.control is not None else ""
        return f"{self.model} version {self.version} in {self.repository.path}{live}{loaded}"

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
        settings = "" if self.applied_settings is None else ", with the serving settings of the recipe"
        return f"version {self.version} goes live{instead} in {where}{settings}"


def plan_release(
    run: Run,
    repository: Repository,
    *,
    model: str | None = None,
    precision: WantedPrecision = "auto",
    budget_s: float = BUDGET_S,
    max_loss_points: float = MAX_LOSS_POINTS,
    images: GateImages | None = None,
    limits: GateLimits = DEFAULT_LIMITS,
    force: str | None = None,
    apply_serving: bool = False,
    canary: CanarySettings | None = DEFAULT_CANARY,
    control: Control | None = None,
    reason: str = "",
) -> ReleasePlan:
    """Plan the release of a run, and find what would stop it before anything is changed.

    Args:
        run: a finished run.
        repository: the model repository; it may not exist yet.
        model: name of the model. Default: the name of the recipe.
        precision: precision of the exported graph; ``auto`` is the fastest one that passes on this machine, which the
            export decides.
        budget_s: time budget of the search for a graph of lower precision, in seconds.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose, in points.
        images: the images on which the gate measures, and with which the canary is probed. Default: held-out images of
            the run; see `tamiz_release.gate.run_images`.
        limits: the limits of the gate.
        force: why the version is published even if it fails the gate; None publishes nothing then.
        apply_serving: whether the serving settings of the recipe replace those of the published model when the version
            is promoted; until then, the live version and the canary have those of the published model.
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
    check_choice("precision", precision, get_args(WantedPrecision))
    check_seconds("budget_s", budget_s)
    check_max_loss(max_loss_points)
    check_flag("apply_serving", apply_serving)
    check_reason(reason)
    if force is not None:
        check_text("force", force, "the reason, or None")
    if model is not None:
        check_text("model", model, "the name of a model, or None")
    name = run.recipe.name if model is None else model
    version = repository.next_version(name)
    is_new = not repository.path.is_dir() or name not in repository.models()
    numbers = [] if is_new else repository.live_numbers(name)
    if not is_new:
        require_no_rollout(name, repository.rollout(name))
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
        max_loss_points=max_loss_points,
        images=images,
        force=force,
        apply_serving=apply_serving,
        reason=reason,
        control=control,
    )
    if plan.canary is None or live is None:
        return plan
    require_promoted_live(name, repository.config(name), numbers)
    if precision == "auto":
        return replace(plan, runtimes=fitting_runtimes(repository, name, live, version, run.spec))
    require_canary_fits(repository, name, live, version, run.spec, plan.accelerators)
    return plan


def _require_served(repository: Repository, model: str, control: Control) -> None:
    """Check that the server serves what is live on disk; otherwise a release would fail when it has published."""
    expected, served = repository.loaded_numbers(model), ready_versions(control, model)
    if served != expected:
        are = "are" if len(expected) > 1 else "is"
        has, wants = (name_versions(numbers) for numbers in (served, expected))
        raise RepositoryError(
            f"{control.url} does not serve {repository.path}: the server has {has} of {model}, and {wants} {are} live "
            f"on disk; if it is the server of this repository, have it follow: `tamiz promote {model} "
            f"{expected[-1] if expected else 'VERSION'} --url {control.url}`"
        )
