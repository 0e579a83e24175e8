"""Limits of the gate: their defaults, and how the command line sets them."""

from __future__ import annotations

import pytest

from tamiz import UsageError
from tamiz_release import GateLimits
from tamiz_release.gate import parse_limits


@pytest.mark.parametrize(
    ("precision", "agreement", "difference", "drop"),
    [("fp32", 1.0, 1e-3, None), ("fp16", 0.999, 0.1, None), ("int8", None, None, 0.005), ("bf16", None, None, None)],
)
def test_each_precision_has_its_own_defaults(
    precision: str, agreement: float | None, difference: float | None, drop: float | None
) -> None:
    limits = GateLimits().of_precision(precision)
    assert (limits.label_agreement, limits.probability_difference, limits.accuracy_drop) == (
        agreement,
        difference,
        drop,
    )


def test_a_given_limit_stands_whatever_the_precision_is() -> None:
    limits = GateLimits(label_agreement=0.5).of_precision("fp32")
    assert (limits.label_agreement, limits.probability_difference) == (0.5, 1e-3)


def test_the_command_line_sets_limits_by_name() -> None:
    assert parse_limits(["label_agreement=0.99", "images=50"]) == GateLimits(label_agreement=0.99, images=50)
    assert parse_limits(None) == GateLimits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_agrement=1", "there is no limit 'label_agrement'; did you mean 'label_agreement'"),
        ("label_agreement", "--limit label_agreement: write label_agreement=NUMBER"),
        ("label_agreement=2", "--limit: label_agreement: 2.0 (float): Input should be less than or equal to 1"),
        ("images=none", "--limit images=none: write images=NUMBER"),
        ("images=0.5", "--limit: images: 0.5"),
        ("slowdown=nan", "--limit: slowdown: "),
    ],
)
def test_a_wrong_limit_is_a_usage_error_that_names_it(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_limits([text])
    assert message in str(raised.value)
