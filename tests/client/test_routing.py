"""Which version answers an image: decisions in memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2

from tamiz import InvalidImageError, Rollout
from tamiz.routing import choose, hash_image, read_rollout

IMAGES = [np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8) for number in range(4000)]


def config(*loaded: int, **parameters: str) -> model_config_pb2.ModelConfig:
    message = model_config_pb2.ModelConfig(name="pets")
    message.version_policy.specific.versions.extend(loaded)
    for name, value in parameters.items():
        message.parameters[f"tamiz.{name}"].string_value = value
    return message


@pytest.mark.parametrize(
    ("message", "rollout"),
    [
        pytest.param(config(1, 2), None, id="none"),
        pytest.param(config(1, 2, canary="2 0.1"), Rollout(2, canary=0.1), id="canary"),
        pytest.param(config(1, 2, canary="1 1", sticky="image"), Rollout(1, canary=1.0, sticky=True), id="sticky"),
        pytest.param(config(1, 2, shadow="2 0.05"), Rollout(2, shadow=0.05), id="shadow"),
        pytest.param(config(1, 2, canary="2 0.1", shadow="2 0.5"), Rollout(2, canary=0.1, shadow=0.5), id="both"),
        pytest.param(config(1, 2, 3, canary="2 0.1", shadow="3 0.5"), Rollout(2, canary=0.1), id="two versions"),
        pytest.param(config(1, canary="2 0.1"), None, id="not loaded"),
        pytest.param(config(2, canary="2 0.1"), None, id="nothing beside it"),
    ],
)
def test_a_rollout_is_in_force_while_servers_load_the_candidate_beside_another_version(
    message: model_config_pb2.ModelConfig, rollout: Rollout | None
) -> None:
    assert read_rollout(message) == rollout


@pytest.mark.parametrize(
    "text", ["", "2", "2 0", "2 1.1", "2 -0.1", "2 nan", "2 inf", "two 0.1", "0 0.1", "-2 0.1", "2 x"]
)
def test_malformed_shares_are_no_rollout(text: str) -> None:
    assert read_rollout(config(1, 2, canary=text)) is None


def test_a_call_goes_to_one_version_unless_the_rollout_is_sticky() -> None:
    rollout = Rollout(2, canary=0.3)
    assert choose(rollout, IMAGES[:5], 0.299) == [True] * 5
    assert choose(rollout, IMAGES[:5], 0.3) == [False] * 5
    assert choose(Rollout(2, canary=1.0), IMAGES[:2], 0.999999) == [True] * 2
    assert choose(Rollout(2, shadow=1.0), IMAGES[:2], 0.0) == [False] * 2


def test_a_sticky_choice_depends_on_the_image_and_on_nothing_else() -> None:
    rollout = Rollout(2, canary=0.3, sticky=True)
    chosen = choose(rollout, IMAGES, 0.0)
    order = random.Random(0).sample(range(len(IMAGES)), len(IMAGES))
    assert choose(rollout, [IMAGES[place].copy() for place in order], 0.99) == [chosen[place] for place in order]


def test_a_higher_share_keeps_the_images_of_a_lower_one() -> None:
    lower, higher = (choose(Rollout(2, canary=share, sticky=True), IMAGES, 0.5) for share in (0.1, 0.4))
    assert all(more for less, more in zip(lower, higher, strict=True) if less)
    assert sum(higher) > sum(lower)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_sticky_shares_are_within_the_sampling_error(share: float) -> None:
    answered = sum(choose(Rollout(7, canary=share, sticky=True), IMAGES, 0.5))
    expected, deviation = len(IMAGES) * share, (len(IMAGES) * share * (1 - share)) ** 0.5
    assert abs(answered - expected) < 4 * deviation


def test_each_candidate_gets_other_images() -> None:
    first, second = (choose(Rollout(version, canary=0.5, sticky=True), IMAGES, 0.5) for version in (2, 3))
    same = sum(one == other for one, other in zip(first, second, strict=True))
    assert abs(same - len(IMAGES) / 2) < 4 * (len(IMAGES) / 4) ** 0.5


def test_the_hash_of_an_image_is_the_same_on_every_machine() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert hash_image(image, 2) == 0.8224238774238455


def test_an_unreadable_image_is_not_for_the_candidate() -> None:
    rollout = Rollout(2, canary=1.0, sticky=True)
    assert choose(rollout, [InvalidImageError("damaged"), IMAGES[0]], 0.5) == [False, True]
