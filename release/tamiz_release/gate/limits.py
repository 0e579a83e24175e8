"""The limits of the gate: how far a candidate may be from its reference, and from the live version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tamiz.document import Document
from tamiz.errors import UsageError, suggest

Part = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Images = Annotated[int, Field(ge=1)]

_OF_PRECISION: Mapping[str, Mapping[str, float]] = {
    "fp32": {"label_agreement": 1.0, "probability_difference": 1e-3},
    "fp16": {"label_agreement": 0.999, "probability_difference": 0.1},
    "int8": {"accuracy_drop": 0.005},
}
"""The default limits of each precision, beside those of `GateLimits` itself."""


class GateLimits(Document):
    """The limits of the gate. A limit that is None has the default of the candidate's precision, or none.

    Attributes:
        label_agreement: The smallest fraction of images for which the candidate predicts the label of its reference.
            Default: 1 for FP32, 0.999 for FP16, no limit for INT8.
        probability_difference: The largest difference of two probabilities. Default: 0.001 for FP32, 0.1 for FP16, no
            limit for INT8.
        accuracy_drop: The largest part of the accuracy (multilabel: of the mean average precision) by which the
            candidate may be below its reference; 0.005 are half a point. Default: 0.005 for INT8; the label agreement
            stands for it otherwise.
        calibration_increase: The largest increase of the expected calibration error.
        live_drop: The largest part of the accuracy (multilabel: of the macro F1) by which the candidate may be below
            the live version. A larger difference fails only if it is significant: if the 95 % interval of the paired
            difference lies below 0.
        slowdown: The largest latency as a multiple of that of the live version, at batch size 1 and at the best one.
            Default: no limit.
        growth: The largest size of the graph's file as a multiple of that of the live version. Default: no limit.
        images: The largest number of images that are measured. They are spread over the held-out images.
    """

    label_agreement: Part | None = None
    probability_difference: Part | None = None
    accuracy_drop: Part | None = None
    calibration_increase: Part = 0.02
    live_drop: Part = 0.005
    slowdown: Ratio | None = None
    growth: Ratio | None = None
    images: Images = 1_000

    def of_precision(self, precision: str) -> GateLimits:
        """The limits with the defaults of a precision in place of those that are None."""
        defaults = _OF_PRECISION.get(precision, {})
        return self.model_copy(update={name: value for name, value in defaults.items() if getattr(self, name) is None})


DEFAULT_LIMITS = GateLimits()
"""The default limits."""


def parse_limits(texts: list[str] | None) -> GateLimits:
    """The limits that the values of ``--limit`` set, such as ``label_agreement=0.99``.

    Raises:
        UsageError: a value is not ``name=number``, or not a limit.
    """
    values: dict[str, Any] = {}
    for text in texts or ():
        name, _, number = text.partition("=")
        if name not in GateLimits.model_fields:
            raise UsageError(f"--limit {text}: there is no limit {name!r}{suggest(name, GateLimits.model_fields)}")
        try:
            values[name] = float(number)
        except ValueError:
            raise UsageError(f"--limit {text}: write {name}=NUMBER") from None
    try:
        return GateLimits(**values)
    except UsageError as exc:
        raise UsageError(f"--limit: {str(exc).removeprefix('GateLimits: ')}") from exc
