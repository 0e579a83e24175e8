"""Publication: adding a candidate to a model repository as the next version of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tamiz.arguments import check_function, check_instance
from tamiz_server.config import ServingSettings
from tamiz_server.promotion import apply_settings, describe_live
from tamiz_server.promotion import promote as promote_version
from tamiz_server.repository import Repository
from tamiz_server.triton_faults import known_version, setting_warnings
from tamiz_train.run import Run

from .candidate import Candidate
from .gate import GateImages, GateReport, find_live, require_passed, run_gate
from .gate.page import version_files, write_gate_report
from .gate.tracking import track_gate
from .publication_options import DEFAULT_OPTIONS, PublicationOptions, check_publication
from .publication_warnings import report_warnings, version_warnings
from .registry import synchronise
from .serving_plan import changed_settings, plan_config
from .sources import ModelSource


@dataclass(frozen=True)
class PublishedVersion:
    """A version that was added to a model repository.

    Attributes:
        model: name of the model.
        version: number of the added version.
        live: number of the version that is live now; None if an operator has made none live.
    """

    model: str
    version: int
    live: int | None


def publish_candidate(
    candidate: Candidate,
    repository: Repository,
    model: str,
    *,
    reference: ModelSource | None = None,
    images: GateImages | None = None,
    options: PublicationOptions = DEFAULT_OPTIONS,
    on_passed: Callable[[GateReport], None] = lambda report: None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a candidate to a model repository as the model's next version, if it passes the gate, and register it.

    The first version goes live at once; a later one goes live when it is promoted. If MLflow is configured, the version
    is registered there (`tamiz_release.registry.synchronise`). If MLflow cannot be used, that is a warning.

    Args:
        candidate: the graph, with its spec and how it was made.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        reference: what the candidate must agree with: the run, or the graph that it was made from; None if neither is
            at hand.
        images: the images on which the gate measures. None: an FP32 candidate is published with a warning that it was
            not measured, and one of lower precision fails the gate.
        options: how the version is gated, published and brought into service.
        on_passed: called with the verdict of a candidate that passed the gate, or is forced, before it is published.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        GateError: the candidate failed the gate, and the options do not force it.
        UsageError: the images do not fit the model.
        RunError: the reference cannot be computed.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
        OutputError: the report of the gate cannot be written.
    """
    check_instance("candidate", candidate, Candidate)
    check_instance("reference", reference, ModelSource, optional=True)
    check_function("on_passed", on_passed, "a function that takes a report")
    check_publication(repository, model, images=images, options=options, on_progress=on_progress)
    spec, settings = candidate.spec, candidate.settings
    manifest = {
        **candidate.manifest,
        "precision": candidate.precision,
        "accelerators": dict(candidate.accelerators),
        "onnx_sha256": candidate.onnx_sha256,
        "serving": settings.model_dump() if settings is not None else None,
    }
    report_warnings(version_warnings(repository, model, spec, manifest), on_progress)
    notes: list[str] = []
    live = find_live(repository, model, notes)
    report = run_gate(
        candidate,
        reference,
        images,
        model=model,
        config=plan_config(candidate, repository, model, apply_serving=options.apply_serving),
        live=live,
        limits=options.limits,
        notes=notes,
        on_progress=on_progress,
    )
    run = None if reference is None else reference.run
    if report.failures and options.force is not None:
        report = replace(report, forced=options.force)
    track_gate(report, run, on_progress)
    _require_passed(report, run)
    _describe_gate(report, options.force, on_progress)
    on_passed(report)
    before = _loaded_numbers(repository, model)
    forced = report.forced and f"published despite the gate: {report.forced}"
    version = repository.publish(
        model,
        candidate.graph,
        spec,
        manifest={**manifest, "gate": report.to_dict()},
        settings=settings or ServingSettings(),
        files=version_files(report, run),
        reason="; ".join(filter(None, (options.reason, forced))),
    )
    on_progress(f"published {model} version {version} in {repository.path}")
    changes = "" if settings is None else changed_settings(repository.config(model), settings)
    applied = settings if changes and options.apply_serving and not options.serving_later else None
    if options.promote:
        promote_version(repository, model, version, control=options.control, reason=options.reason, settings=applied)
    elif applied is not None:
        apply_settings(repository, model, applied, control=options.control)
    if applied is not None:
        on_progress(f"applied the serving settings of the recipe: {changes}")
    elif changes and not options.apply_serving:
        on_progress(
            f"warning: config.pbtxt of {model} keeps other serving settings than the recipe: {changes}; "
            "--apply-serving applies those of the recipe"
        )
    # Its files need not be readable, as those of a damaged one are not.
    now_live = max(repository.live_numbers(model), default=None)
    if options.control is not None and now_live == version and not options.promote:
        # The first version of a model goes live without a promotion.
        options.control.load(model)
    on_progress(describe_live(repository, model, before, control=options.control))
    report_warnings(setting_warnings(repository.config(model), known_version(options.control)), on_progress)
    # MLflow comes last: it is slow to import, and may be slow to answer.
    synchronise(repository, model, on_progress=on_progress)
    return PublishedVersion(model, version, now_live)


def _loaded_numbers(repository: Repository, model: str) -> list[int]:
    is_known = repository.path.is_dir() and model in repository.models()
    return repository.loaded_numbers(model) if is_known else []


def _require_passed(report: GateReport, run: Run | None) -> None:
    if not report.failures or report.forced is not None:
        return
    folder = Path("gate") / report.model if run is None else run.path / "gate"
    page = write_gate_report(report, folder)
    require_passed(report, f"see {page}; --force REASON publishes it anyway")


def _describe_gate(report: GateReport, force: str | None, on_progress: Callable[[str], None]) -> None:
    for note in report.notes:
        on_progress(f"gate: {note}")
    for line in report.summary():
        on_progress(f"gate: {line}")
    if not report.failures and report.not_measured is not None:
        report_warnings(
            [f"{report.model}: nothing says whether the answers are right: {report.not_measured}"], on_progress
        )
    if not report.failures and force is not None:
        on_progress("gate: --force was not needed")
