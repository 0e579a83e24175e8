"""The arguments that the publications of runs, of graphs and of candidates share, checked before anything is done."""

from __future__ import annotations

from tamiz.arguments import check_choice, check_flag, check_instance, check_progress, check_text
from tamiz_server.control import Control
from tamiz_server.history import check_reason
from tamiz_server.repository import Repository

from .gate import GateImages, GateLimits

TARGETS = ("cpu", "tensorrt")
"""What may compute a graph; see `tamiz_release.export_precision`."""


def check_publication(
    repository: object,
    model: object,
    *,
    images: object,
    limits: object,
    force: object,
    promote: object,
    control: object,
    reason: object,
    on_progress: object,
    apply_serving: object = False,
) -> None:
    """Check what all publications take; their docstrings say what it is.

    Raises:
        UsageError: an argument is wrong.
    """
    check_instance("repository", repository, Repository)
    check_text("model", model, "the name of a model")
    check_instance("images", images, GateImages, optional=True)
    check_instance("limits", limits, GateLimits)
    if force is not None:
        check_text("force", force, "the reason, or None")
    check_flag("promote", promote)
    check_flag("apply_serving", apply_serving)
    check_instance("control", control, Control, optional=True)
    check_reason(reason)
    check_progress(on_progress)


def check_target(target: object, engine_cache: object) -> None:
    """Check what will compute a graph, and the folder of its engines.

    Raises:
        UsageError: an argument is wrong.
    """
    check_choice("target", target, TARGETS)
    if engine_cache is not None:
        check_text("engine_cache", engine_cache, "an absolute folder, or None")
