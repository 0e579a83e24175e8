"""The report of the gate: the verdict on a candidate, with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tamiz_train.metrics import ClassMetrics

from .agreement import Agreement
from .latency import Latency
from .limits import GateLimits
from .live import LiveFigures


@dataclass(frozen=True)
class GateCheck:
    """One question that the gate asked.

    Attributes:
        name: name of the limit, see `GateLimits`. The other checks have no limit: ``served`` (the session that will
            serve can compute the graph; ``computed`` if only a CPU could be tried), ``images`` (some can be read),
            ``labels`` (they are those of the reference), ``finite`` (all probabilities are numbers), ``overflow`` (no
            activation is too large for FP16) and ``measured`` (what a lower precision loses could be measured).
        passed: whether the answer is within the limit.
        text: the answer as a sentence.
        value: the measured figure, if it is one.
        limit: the limit, if it is a number.
    """

    name: str
    passed: bool
    text: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class GateReport:
    """The verdict of the gate, with its figures.

    Attributes:
        model: name of the model.
        candidate: what the candidate is, for people.
        precision: precision of the candidate.
        accelerators: accelerators of the candidate; see `tamiz_release.Candidate`.
        onnx_sha256: SHA-256 of the candidate's graph.
        size: size of the graph in bytes.
        reference: what the candidate was compared with, for people; None if nothing was at hand.
        images: number of images that were measured; 0 if none were at hand.
        origin: what these images are.
        not_run: why the session that will serve the candidate was not run, so that the graph was measured on the CPU,
            and its latency was not; None if it was run.
        not_measured: why nothing says whether the answers of the candidate are right, and what would measure it; None
            if something does, or if a check failed before.
        limits: the limits, with the defaults of the precision.
        checks: the checks, those that failed first.
        agreement: the candidate beside its reference; None if it was not measured.
        metrics: metrics of the candidate; empty if the labels of the images are unknown.
        classes: metrics of each label, in the order of the labels; empty if the labels of the images are unknown.
        confusion_matrix: the entries of the confusion matrix that are not 0, each as the index of the true label, that
            of the predicted label, and the number of images; empty if the labels of the images are unknown, or an image
            may have several.
        latency: latency of the candidate; None if it cannot be served, or the session that serves was not run.
        live: the candidate beside the live version; None if there is none.
        notes: what limits the meaning of the figures.
        measured: when, in ISO 8601.
        seconds: how long it took.
        machine: on which processor and with which libraries.
        forced: the reason for which a candidate that failed was published anyway; None if it was not.
    """

    model: str
    candidate: str
    precision: str
    accelerators: Mapping[str, Any]
    onnx_sha256: str
    size: int
    reference: str | None
    images: int
    origin: str
    limits: GateLimits
    checks: tuple[GateCheck, ...]
    not_run: str | None = None
    not_measured: str | None = None
    agreement: Agreement | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[ClassMetrics, ...] = ()
    confusion_matrix: tuple[tuple[int, int, int], ...] = ()
    latency: Latency | None = None
    live: LiveFigures | None = None
    notes: tuple[str, ...] = ()
    measured: str = ""
    seconds: float = 0.0
    machine: Mapping[str, str] = field(default_factory=dict)
    forced: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the candidate was measured, and every figure is within its limit."""
        return not self.failures and self.not_measured is None

    @property
    def failures(self) -> tuple[GateCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def verdict(self) -> str:
        """``passed``, ``passed on the CPU alone``, ``not measured``, ``failed``, or ``forced:`` with the reason."""
        if self.failures:
            return "failed" if self.forced is None else f"forced: {self.forced}"
        if self.not_measured is not None:
            return "not measured"
        return "passed" if self.not_run is None else "passed on the CPU alone"

    def to_dict(self) -> dict[str, Any]:
        """The content of gate.json, and of ``gate`` in manifest.json."""
        return {
            "verdict": self.verdict,
            "passed": self.passed,
            "forced": self.forced,
            "model": self.model,
            "candidate": self.candidate,
            "precision": self.precision,
            "accelerators": dict(self.accelerators),
            "onnx_sha256": self.onnx_sha256,
            "size": self.size,
            "reference": self.reference,
            "images": self.images,
            "origin": self.origin,
            "not_run": self.not_run,
            "not_measured": self.not_measured,
            "checks": [asdict(check) for check in self.checks],
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "metrics": dict(self.metrics),
            "classes": [asdict(each) for each in self.classes],
            "confusion_matrix": [list(entry) for entry in self.confusion_matrix],
            "latency": None if self.latency is None else self.latency.to_dict(),
            "live": None if self.live is None else self.live.to_dict(),
            "limits": self.limits.model_dump(),
            "notes": list(self.notes),
            "measured": self.measured,
            "seconds": round(self.seconds, 1),
            "machine": dict(self.machine),
        }

    def summary(self) -> list[str]:
        """The verdict in a few lines, for a terminal."""
        measured = [f"{self.images:,} {self.origin}"] if self.images and self.not_measured is None else []
        if (agreement := self.agreement) is not None:
            measured += [
                f"label agreement {agreement.label_agreement:.4f}",
                f"largest difference {agreement.largest_difference:.1e}",
            ]
            if agreement.metric is not None:
                own, other = agreement.values
                measured.append(f"{agreement.metric} {own:.4f} (reference {other:.4f})")
        elif self.metrics:
            measured += [f"{name} {value:.4f}" for name, value in [*self.metrics.items()][:1]]
        if self.not_measured is not None and not self.failures:
            measured.append(self.not_measured)
        lines = [f"{self.verdict}: {', '.join(measured)}" if measured else self.verdict]
        lines += [f"failed: {check.text}" for check in self.failures]
        if self.not_run is not None:
            lines.append(f"the session that serves was not run, and its latency was not judged: {self.not_run}")
        if self.latency is not None:
            lines.append(self._speed(self.latency))
        return [*lines, *self._beside_live()]

    def _speed(self, own: Latency) -> str:
        line = (
            f"{own.one_ms:.2f} ms for one image, {own.best_ms:.2f} ms per image of a batch of {own.best_batch}, "
            f"{self.size / 1e6:.1f} MB"
        )
        if self.live is not None and (other := self.live.latency) is not None:
            line += (
                f"; the live version {self.live.version}: {other.one_ms:.2f} ms, {other.best_ms:.2f} ms of a batch of "
                f"{other.best_batch}, {self.live.size / 1e6:.1f} MB"
            )
        return line

    def _beside_live(self) -> list[str]:
        if self.live is None:
            return []
        if (compared := self.live.comparison) is None:
            return [f"not compared with the live version {self.live.version}: {self.live.reason}"]
        low, high = compared.interval
        return [
            f"{compared.metric} {compared.difference * 100:+.2f} points against live version {self.live.version} "
            f"(95 % interval {low * 100:+.2f} to {high * 100:+.2f}) on {compared.count:,} images"
        ]

    def figures(self) -> dict[str, float]:
        """The figures as metrics of a tracked run, by name."""
        figures: dict[str, float] = {"passed": float(self.passed), **self.metrics}
        if self.agreement is not None:
            figures["label_agreement"] = self.agreement.label_agreement
            figures["probability_difference"] = self.agreement.largest_difference
        if self.latency is not None:
            figures |= {"latency_ms": self.latency.one_ms, "latency_best_batch_ms": self.latency.best_ms}
        if self.live is not None and self.live.comparison is not None:
            figures["difference_to_live"] = self.live.comparison.difference
        return figures
