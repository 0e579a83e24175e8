"""``tamiz release``: release a run in one go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tamiz.console import ExitCode, print_json, print_table, progress_line
from tamiz.errors import TamizError, UsageError
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    RepositoryOption,
    RunningServerOption,
    parse_share,
)
from tamiz_server.commands.connection import connect
from tamiz_server.repository import Repository
from tamiz_train.commands.arguments import RunArgument
from tamiz_train.run import Run

from ..precision.defaults import MAX_LOSS_POINTS
from .arguments import (
    ApplyServingOption,
    ForceOption,
    GateImagesOption,
    GateLimitOption,
    MaxLossOption,
    check_force,
    make_watch_limits,
    parse_duration,
)

if TYPE_CHECKING:
    from ..releasing.plan import ReleasePlan


def release(
    run: RunArgument,
    model: Annotated[str | None, typer.Option(help="Name of the model. Default: the name of the recipe.")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "int8"],
        typer.Option(
            help="Precision of the graph; auto takes the fastest on this machine that keeps the accuracy, with its "
            "runtime."
        ),
    ] = "auto",
    budget: Annotated[
        float, typer.Option(min=1, help="Time budget of the search for a graph of lower precision, in seconds.")
    ] = 300,
    max_loss: MaxLossOption = MAX_LOSS_POINTS,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    images: GateImagesOption = None,
    limit: GateLimitOption = None,
    force: ForceOption = None,
    apply_serving: ApplyServingOption = False,
    canary: Annotated[
        str | None,
        typer.Option(help="Share of the calls that the version answers while it is watched. Default: 10%."),
    ] = None,
    no_canary: Annotated[bool, typer.Option("--no-canary", help="Go live after the gate, without a canary.")] = False,
    watch: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the canary is watched: 90s, 10m or 1h. Default: 10m.")
    ] = None,
    probes: Annotated[
        float | None, typer.Option(help="Probes a second during the watch; 0 for none. Default: 5.")
    ] = None,
    max_errors: Annotated[
        str | None,
        typer.Option(help="By how much the canary's error rate may be above the live version's. Default: 1%."),
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            help="How many times those of the live version the canary's p99 and median latency may be. Default: 1.5."
        ),
    ] = None,
    min_agreement: Annotated[
        str | None,
        typer.Option(help="How many of the canary's answers must be those of the live version. Default: 80%."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    reason: ReasonOption = "",
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a run, gate it, publish it, try it as a canary, watch it, and promote it.

    A run that fails the gate is not published. A canary that is worse than the live version beyond the limits is rolled
    back, and the exit code is 1. The first version of a model goes live after the gate. Without --url there is no
    canary, and the version goes live on disk.
    """
    given = {"canary": canary, "watch": watch}
    for name, value in given.items():
        if value is not None and url is None:
            raise UsageError(f"--{name} is for a running server; give its --url")
        if value is not None and no_canary:
            raise UsageError(f"--{name} and --no-canary contradict each other; give one of them")
    check_force(force)
    share = parse_share("canary", "10%" if canary is None else canary)
    watch_s = parse_duration("watch", "10m" if watch is None else watch)
    found = Run.find(run)
    from ..gate import folder_images, parse_limits
    from ..releasing.canary import CanarySettings
    from ..releasing.plan import plan_release

    settings = CanarySettings(share, watch_s, make_watch_limits(max_errors, max_latency, min_agreement))
    if probes is not None:
        settings = replace(settings, probes_per_s=probes)
    with connect(url, key, header, ca, certificate, certificate_key) as control:
        plan = plan_release(
            found,
            Repository(repository),
            model=model,
            precision=precision,
            budget_s=budget,
            max_loss_points=max_loss,
            images=None if images is None else folder_images(images, found.spec),
            limits=parse_limits(limit),
            force=force,
            apply_serving=apply_serving,
            canary=None if no_canary else settings,
            control=control,
            reason=reason,
        )
        if plan.why_no_canary:
            progress_line(plan.why_no_canary)
        if not dry_run:
            _carry_out(plan, as_json=as_json)
        elif as_json:
            print_json(plan.to_dict())
        else:
            print_table(("step", "what would be done"), ((step, plan.describe(step)) for step in plan.steps))


def _carry_out(plan: ReleasePlan, *, as_json: bool) -> None:
    from ..releasing.release import carry_out
    from ..releasing.state import describe_state
    from ..releasing.view import ReleaseView

    with ReleaseView(plan) as view:
        try:
            report = carry_out(plan, on_step=view.on_step, on_progress=view.line)
        except (TamizError, KeyboardInterrupt) as exc:
            if as_json:
                stopped = {
                    "outcome": "interrupted" if isinstance(exc, KeyboardInterrupt) else "failed",
                    "error": str(exc),
                    "steps": [step.to_dict() for step in view.steps],
                    "state": describe_state(plan),
                }
                print_json(plan.to_dict() | stopped)
            raise
    progress_line(f"{report.outcome} after {report.seconds:.1f} s: {report.state}")
    if as_json:
        print_json(report.to_dict())
    if report.outcome != "live":
        raise typer.Exit(ExitCode.FAILED)
