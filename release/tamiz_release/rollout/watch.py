"""The watch over a canary or shadow: roll it back as soon as it is worse than the live version beyond the limits.

How this is decided: `tamiz_release.rollout.judge` compares error rates, latencies and answers of both versions in the
same seconds, by a test that stays valid however often one looks (`tamiz_release.rollout.sequential`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from tritonclient.grpc import model_config_pb2

from tamiz.arguments import (
    check_flag,
    check_function,
    check_instance,
    check_list,
    check_number,
    check_progress,
    check_seconds,
    check_text,
)
from tamiz.engine.events import OnEvent
from tamiz.errors import RepositoryError, ServerError
from tamiz.preprocessing import ImageSource
from tamiz.routing import read_rollout
from tamiz.served_version import live_versions, read_served_version
from tamiz.transports import Transport
from tamiz.transports.requests import ModelConfig, VersionCounts, VersionStatistics
from tamiz_server.config import ServingSettings
from tamiz_server.control import Control
from tamiz_server.promotion import RolloutEnded, promote, rollback
from tamiz_server.repository import Repository

from .judge import Judge, Pair, WatchFinding, WatchLimits
from .observation import LOOK_S, PATIENCE_S, observe
from .probes import Prober

Outcome: TypeAlias = Literal["kept", "promoted", "rolled back", "ended"]

LEAST_REQUESTS = 50
"""Number of requests that both versions must have answered before a candidate is promoted."""

PROBES_PER_S = 5.0
"""Probes a second unless told otherwise: little beside the load of a server that needs canaries."""

_TIMEOUT_S = 5.0
_REPORT_S = 60.0


@dataclass(frozen=True)
class WatchReport:
    """What a watch has seen and done.

    Attributes:
        model: name of the model.
        live: number of the version that was live.
        candidate: number of the candidate.
        outcome: ``rolled back`` because of a breach; ``promoted`` or ``kept`` at the end of a watch without one;
            ``ended`` if somebody else ended the rollout meanwhile.
        seconds: how long it watched.
        findings: what was seen.
        breach: the finding that led to a rollback; None without one.
        text: what happened, in one line.
    """

    model: str
    live: int
    candidate: int
    outcome: Outcome
    seconds: float
    findings: tuple[WatchFinding, ...]
    breach: WatchFinding | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return asdict(self)


def watch(
    repository: Repository,
    model: str,
    *,
    control: Control,
    watch_s: float = 600.0,
    limits: WatchLimits | None = None,
    images: Sequence[ImageSource] = (),
    probes_per_s: float = PROBES_PER_S,
    then_promote: bool = False,
    settings: ServingSettings | None = None,
    on_start: Callable[[OnEvent], None] = lambda on_event: None,
    on_promote: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> WatchReport:
    """Watch the canary or shadow of a model, and roll it back if its errors, latency or answers leave their limits.

    What is compared: the failed requests of all clients, as the server counts them; and probes, for which both versions
    are asked about the same image, one right after the other. A version is rolled back as soon as a test that may be
    looked at at any time says that it is beyond a limit: see `WatchLimits`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        control: the control of the running server.
        watch_s: seconds to watch.
        limits: when the candidate is rolled back; None for the defaults.
        images: images for the probes, which neither version was trained on. Without any, probes are random pixels, and
            only their errors and latencies are compared.
        probes_per_s: number of probes a second; 0 for none.
        then_promote: make the candidate the live version after a watch without a breach, if both versions have answered
            at least `LEAST_REQUESTS`.
        settings: serving settings that replace those in the configuration when the candidate is promoted; None keeps
            these.
        on_start: called with a function for the ``on_event`` of a client in this process, whose requests are then
            compared too.
        on_promote: called with a line of text, what was seen, before the candidate is promoted.
        on_progress: called with a line of text at the beginning, each minute, and when it is interrupted.

    Returns:
        what was seen and done. An interrupt (Ctrl-C) leaves the candidate as it is.

    Raises:
        RepositoryError: the model has no canary or shadow on the server, or the repository cannot be changed.
        ServerError: the server does not answer any more, or rejects the key; the candidate is left as it is.
        SpecError: a spec cannot be read.
        UsageError: an argument is wrong, or none of the images can be read.
    """
    check_instance("repository", repository, Repository)
    check_instance("control", control, Control)
    check_seconds("watch_s", watch_s)
    check_instance("limits", limits, WatchLimits, optional=True)
    check_number("probes_per_s", probes_per_s, "a number from 0 to 1,000", above=-1e-9, below=1_000 + 1e-9)
    check_text("model", model, "the name of a model")
    check_list("images", images, "a list of images")
    check_flag("then_promote", then_promote)
    check_instance("settings", settings, ServingSettings, optional=True)
    check_function("on_start", on_start, "a function that takes a function of events")
    check_function("on_promote", on_promote, "a function that takes a line of text")
    check_progress(on_progress)
    rollout = ServedRollout(control.transport, model, images)
    looks = math.ceil(watch_s / LOOK_S)
    judge = Judge(limits or WatchLimits(), looks, live=rollout.live, candidate=rollout.candidate)
    on_start(judge.on_event)
    name = f"version {rollout.candidate} of {model}"
    on_progress(f"watching {name} beside version {rollout.live} for {watch_s:g} s")
    began = reported = time.monotonic()

    def on_look(seconds: float) -> None:
        nonlocal reported
        if time.monotonic() - reported >= _REPORT_S:
            reported = time.monotonic()
            on_progress(f"{seconds:.0f} of {watch_s:g} s: {_describe(judge)}")

    outcome: Outcome = "kept"
    breach: WatchFinding | None = None
    try:
        try:
            breach = observe(rollout, judge, watch_s=watch_s, probes_per_s=probes_per_s, on_look=on_look)
        except (KeyboardInterrupt, ServerError):
            on_progress(
                f"the watch was interrupted, and {name} is left as it is; end it with `tamiz rollback {model}`, or "
                f"make it live with `tamiz promote {model} {rollout.candidate}`"
            )
            raise
        seconds = time.monotonic() - began
        text = f"{name} stayed within its limits for {seconds:.0f} s: {_describe(judge)}"
        if breach is not None:
            _roll_back(repository, model, rollout.candidate, control, str(breach))
            outcome = "rolled back"
            text = f"{name} was rolled back after {seconds:.1f} s: {breach}, p = {breach.p_value:.1g}"
        elif not _is_rolled_out(repository, model, rollout.candidate):
            raise RolloutEnded(name)
        elif then_promote and (seen := judge.least_answered) < LEAST_REQUESTS:
            text = (
                f"{name} was not promoted: only {seen} requests were seen, and {LEAST_REQUESTS} are needed; watch it "
                "for longer, or with more probes"
            )
        elif then_promote:
            on_promote(text)
            candidate = rollout.candidate
            promote(repository, model, candidate, control=control, reason=text, if_candidate=True, settings=settings)
            outcome, text = "promoted", f"{text}; it is live now"
    except RolloutEnded:
        breach, seconds = None, time.monotonic() - began
        outcome, text = "ended", f"the rollout of {name} was ended by somebody else during the watch"
    findings = tuple(judge.findings())
    return WatchReport(model, rollout.live, rollout.candidate, outcome, seconds, findings, breach, text)


def _is_rolled_out(repository: Repository, model: str, candidate: int) -> bool:
    """Whether the candidate is rolled out on disk, which a server follows only when it loads the model."""
    rollout = repository.rollout(model)
    return rollout is not None and rollout.version == candidate


def _roll_back(repository: Repository, model: str, candidate: int, control: Control, reason: str) -> None:
    """Roll back; try again for a while, because a bad candidate may have taken the server down with it.

    Raises:
        RolloutEnded: somebody else has ended the rollout; a rollback would undo a promotion.
    """
    gives_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return rollback(repository, model, control=control, reason=reason, automatic=True, candidate=candidate)
        except ServerError:
            if time.monotonic() > gives_up:
                raise
            time.sleep(LOOK_S)


class ServedRollout:
    """The canary or shadow of a model on a server, as a watch observes it.

    Args:
        transport: connection to the server.
        model: name of the model.
        images: images for the probes.

    Raises:
        RepositoryError: the model has no canary or shadow there.
        ServerError: the server does not answer.
        SpecError: a spec cannot be read.
        UsageError: none of the images can be read.

    Attributes:
        live: number of the live version.
        candidate: number of the candidate.
    """

    def __init__(self, transport: Transport, model: str, images: Sequence[ImageSource]) -> None:
        self._transport = transport
        self._model = model
        served = read_served_version(self._config())
        if served.candidate is None:
            raise RepositoryError(
                f"model {model} has no canary or shadow on {transport.url}; start one with `tamiz promote {model} "
                "VERSION --canary 10%`"
            )
        self.live, self.candidate = served.version, served.candidate.version
        self._prober = Prober(transport, served, served.candidate, images)

    def is_in_force(self) -> bool:
        """See `Observed.is_in_force`."""
        config = self._config()
        rollout = read_rollout(config)
        return rollout is not None and rollout.version == self.candidate and self.live in live_versions(config)

    def counts(self) -> tuple[VersionCounts, VersionCounts]:
        """See `Observed.counts`."""
        counts = {each.version: each for each in self._transport.call(VersionStatistics(self._model), _TIMEOUT_S)}
        # A version that the server failed to load has no counts.
        live, candidate = (counts.get(each, VersionCounts(each, 0, 0)) for each in (self.live, self.candidate))
        return live, candidate

    def probe(self) -> Pair:
        """See `Observed.probe`."""
        return self._prober.probe()

    def _config(self) -> model_config_pb2.ModelConfig:
        return self._transport.call(ModelConfig(self._model), _TIMEOUT_S)


def _describe(judge: Judge) -> str:
    return "; ".join(map(str, judge.findings())) or "nothing was seen"
