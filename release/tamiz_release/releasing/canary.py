"""The canary of a release: how a version is tried beside the live one, and whether it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tamiz.arguments import check_instance, check_number, check_seconds
from tamiz.errors import RepositoryError
from tamiz.spec import ModelSpec
from tamiz_server.repository import Repository
from tamiz_server.rollout import require_fit

from ..precision.auto import RUNTIMES, RuntimeName
from ..rollout.judge import WatchLimits
from ..rollout.watch import PROBES_PER_S


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


DEFAULT_CANARY = CanarySettings()
"""The default settings."""


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


def require_canary_fits(
    repository: Repository, model: str, live: int, version: int, spec: ModelSpec, accelerators: Mapping[str, Any]
) -> None:
    """Check that a version can be loaded beside the live one.

    Args:
        repository: the repository.
        model: name of the model.
        live: number of the live version.
        version: number of the version.
        spec: its spec.
        accelerators: its accelerators; see `tamiz_release.Candidate`.

    Raises:
        RepositoryError: it cannot.
    """
    try:
        require_fit(repository, model, live, version, spec, accelerators)
    except RepositoryError as exc:
        raise RepositoryError(f"{exc}; release it with --no-canary") from exc


def fitting_runtimes(
    repository: Repository, model: str, live: int, version: int, spec: ModelSpec
) -> tuple[RuntimeName, ...]:
    """The names of the runtimes in which a version can be loaded beside the live one.

    The arguments are those of `require_canary_fits`.

    Raises:
        RepositoryError: it can be loaded in none, for another reason than the runtime.
    """
    problems: list[RepositoryError] = []
    fitting: list[RuntimeName] = []
    for runtime in RUNTIMES:
        try:
            require_canary_fits(repository, model, live, version, spec, runtime.accelerators)
            fitting.append(runtime.name)
        except RepositoryError as exc:
            problems.append(exc)
    if not fitting:
        raise problems[0]
    return tuple(fitting)
