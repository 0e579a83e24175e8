"""The checks of the gate: figures against limits, each with a sentence that says both."""

from __future__ import annotations

from collections.abc import Iterator

from tamiz.errors import list_names

from .agreement import Agreement
from .latency import Latency
from .limits import GateLimits
from .live import LiveFigures
from .overflow import Overflows
from .report import GateCheck

_METRICS = {"accuracy": "accuracy", "map": "mean average precision", "f1_macro": "macro F1"}


def check_finite(count: int, images: int) -> GateCheck:
    """The check of probabilities that are NaN or infinite.

    Args:
        count: number of images with such a probability.
        images: number of all images.
    """
    text = f"probabilities are NaN or infinite for {count:,} of {images:,} images; none may be"
    return GateCheck("finite", count == 0, text, float(count), 0.0)


def check_overflows(found: Overflows) -> GateCheck:
    """The check of activations that no float16 can hold, which a GPU makes infinite."""
    names = found.names
    text = (
        f"activations overflow in FP16: {list_names(names)}; none may" if names else "no activation overflows in FP16"
    )
    if found.unchecked:
        text += f"; {found.unchecked:,} inside of branches and loops could not be checked"
    return GateCheck("overflow", not names, text, float(len(names)), 0.0)


def check_unmeasured(precision: str, reason: str) -> GateCheck:
    """The failed check of a graph of lower precision that nothing was measured of."""
    return GateCheck("measured", False, f"what {precision.upper()} loses is unknown: {reason}")


def check_agreement(agreement: Agreement, limits: GateLimits) -> list[GateCheck]:
    """The checks of a candidate beside its reference.

    Args:
        agreement: the figures.
        limits: the limits; None is no limit.
    """
    return list(_agreement_checks(agreement, limits))


def _agreement_checks(agreement: Agreement, limits: GateLimits) -> Iterator[GateCheck]:
    if (least := limits.label_agreement) is not None:
        value = agreement.label_agreement
        counts = f"{agreement.agreeing:,} of {agreement.images:,} images"
        text = f"label agreement with the reference is {value:.4f} ({counts}); the limit is at least {least:g}"
        yield GateCheck("label_agreement", value >= least, text, value, least)
    if (most := limits.probability_difference) is not None:
        value = agreement.largest_difference
        text = f"the largest difference of a probability from the reference is {value:.2g}; the limit is {most:g}"
        yield GateCheck("probability_difference", value <= most, text, value, most)
    if limits.accuracy_drop is not None:
        yield _check_drop(agreement, limits.accuracy_drop)
    if agreement.metric is not None:
        own, other = agreement.calibration_errors
        text = (
            f"the calibration error is {own:.4f}, that of the reference {other:.4f}; the limit is an increase of "
            f"{limits.calibration_increase:g}"
        )
        increase = own - other
        yield GateCheck(
            "calibration_increase",
            increase <= limits.calibration_increase,
            text,
            increase,
            limits.calibration_increase,
        )


def _check_drop(agreement: Agreement, most: float) -> GateCheck:
    if agreement.metric is None:
        # An image can lose accuracy only if its labels change.
        worst = 1 - agreement.label_agreement
        text = f"without labels, up to {worst * 100:.2f} points of accuracy may be lost; the limit is {most * 100:g}"
        return GateCheck("accuracy_drop", worst <= most, text, worst, most)
    name = _METRICS[agreement.metric]
    own, other = agreement.values
    text = (
        f"{name} is {own:.4f}, {agreement.drop * 100:.2f} points below the {other:.4f} of the reference; the limit is "
        f"{most * 100:g} points"
    )
    # A tolerance for the last bits of the difference of two fractions.
    return GateCheck("accuracy_drop", agreement.drop <= most + 1e-9, text, agreement.drop, most)


def check_live(live: LiveFigures, latency: Latency | None, size: int, limits: GateLimits) -> list[GateCheck]:
    """The checks of a candidate beside the live version.

    Args:
        live: the figures of the live version.
        latency: latency of the candidate; None if it was not measured, which is then not judged.
        size: size of the candidate's graph in bytes.
        limits: the limits; None is no limit.
    """
    return list(_live_checks(live, latency, size, limits))


def _live_checks(live: LiveFigures, latency: Latency | None, size: int, limits: GateLimits) -> Iterator[GateCheck]:
    if (compared := live.comparison) is not None:
        (other, own), (low, high) = compared.values, compared.interval
        drop = -compared.difference
        text = (
            f"{_METRICS[compared.metric]} is {own:.4f}, that of the live version {live.version} is {other:.4f}: "
            f"{compared.difference * 100:+.2f} points (95 % interval {low * 100:+.2f} to {high * 100:+.2f}, McNemar's "
            f"test p = {compared.p_value:.2g}, {compared.count:,} images); the limit is a significant drop of "
            f"more than {limits.live_drop * 100:g} points"
        )
        fails = drop > limits.live_drop + 1e-9 and high < 0
        yield GateCheck("live_drop", not fails, text, drop, limits.live_drop)
    if limits.slowdown is not None and latency is not None and live.latency is not None:
        ratios = {
            "one image": latency.one_ms / live.latency.one_ms,
            f"an image of a batch of {latency.best_batch}": latency.best_ms / live.latency.best_ms,
        }
        slowest = max(ratios, key=ratios.__getitem__)
        text = (
            f"{slowest} takes {ratios[slowest]:.2f} × the time of the live version; the limit is {limits.slowdown:g} ×"
        )
        yield GateCheck("slowdown", ratios[slowest] <= limits.slowdown, text, ratios[slowest], limits.slowdown)
    if limits.growth is not None:
        ratio = size / live.size
        text = f"the file is {ratio:.2f} × as large as that of the live version; the limit is {limits.growth:g} ×"
        yield GateCheck("growth", ratio <= limits.growth, text, ratio, limits.growth)
