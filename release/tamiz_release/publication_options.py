"""The options of a publication that are the same for a run, a graph, a model of timm and a registered version."""

from __future__ import annotations

from dataclasses import dataclass

from tamiz.arguments import check_flag, check_instance, check_progress, check_text
from tamiz_server.control import Control
from tamiz_server.history import check_reason
from tamiz_server.repository import Repository

from .gate import GateImages
from .gate.limits import DEFAULT_LIMITS, GateLimits


@dataclass(frozen=True)
class PublicationOptions:
    """How a version is gated, published and brought into service.

    Attributes:
        limits: the limits of the gate.
        force: why the version is published even if it fails the gate; None publishes nothing then.
        promote: whether to make the new version the live one. The first version of a model goes live in any case.
        apply_serving: whether the serving settings that come with the version replace those of the published model;
            only runs, and registered versions of them, have any. With ``promote`` they do so in the same change.
        serving_later: whether they wait for a later promotion, to which the caller gives them, instead of being applied
            to the version that is live now.
        control: a running server of the repository, which loads the version when it goes live, and the settings.
        reason: why, for the history of the model.

    Raises:
        UsageError: a value has the wrong type, or ``force`` is empty.
    """

    limits: GateLimits = DEFAULT_LIMITS
    force: str | None = None
    promote: bool = False
    apply_serving: bool = False
    serving_later: bool = False
    control: Control | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        check_instance("limits", self.limits, GateLimits)
        if self.force is not None:
            check_text("force", self.force, "the reason, or None")
        check_flag("promote", self.promote)
        check_flag("apply_serving", self.apply_serving)
        check_flag("serving_later", self.serving_later)
        check_instance("control", self.control, Control, optional=True)
        check_reason(self.reason)


DEFAULT_OPTIONS = PublicationOptions()


def check_publication(
    repository: object, model: object, *, images: object, options: object, on_progress: object
) -> None:
    """Check what every publication takes, before anything is done.

    Raises:
        UsageError: an argument is wrong.
    """
    check_instance("repository", repository, Repository)
    check_text("model", model, "the name of a model")
    check_instance("images", images, GateImages, optional=True)
    check_instance("options", options, PublicationOptions)
    check_progress(on_progress)
