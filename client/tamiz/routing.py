"""Routing: which version answers an image while a candidate is rolled out beside the live version.

The state of a rollout is in config.pbtxt, where every client reads it. All decisions are functions of it and of a
number between 0 and 1, so that they can be tested without a server.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonclient.grpc import model_config_pb2

from .errors import InvalidImageError

if TYPE_CHECKING:
    from .preprocessing import Pixels

CANARY = "tamiz.canary"
"""Config parameter of a canary: the version of the candidate and the share of the calls that it answers."""

STICKY = "tamiz.sticky"
"""Config parameter that is ``image`` if the content of an image decides which version answers it."""

SHADOW = "tamiz.shadow"
"""Config parameter of a shadow: the version of the candidate and the share of the calls that it is sent as well."""


@dataclass(frozen=True)
class Rollout:
    """A candidate that is loaded beside the live version, and what it is sent.

    Attributes:
        version: the version of the candidate.
        canary: share of the calls that the candidate answers, from 0 to 1.
        sticky: whether the content of an image decides which version answers it. Then an image has the same answer in
            each call, and a higher share keeps the images of a lower one. Otherwise each call is decided at random.
        shadow: share of the other calls that are sent to the candidate as well, from 0 to 1. Its answers are compared
            and discarded.
    """

    version: int
    canary: float = 0.0
    sticky: bool = False
    shadow: float = 0.0


def read_rollout(config: model_config_pb2.ModelConfig) -> Rollout | None:
    """Read the rollout of a model from its configuration.

    It is in force only while the version policy has servers load the candidate beside another version.

    Returns:
        the rollout; None if there is none in force, or its parameters are malformed.
    """
    shares = {
        name: share
        for name in (CANARY, SHADOW)
        if name in config.parameters and (share := _parse_share(config.parameters[name].string_value))
    }
    if not shares:
        return None
    version = next(iter(shares.values()))[0]
    loaded = set(config.version_policy.specific.versions)
    if version not in loaded or len(loaded) < 2:
        return None
    canary, shadow = (shares[name][1] if shares.get(name, (0,))[0] == version else 0.0 for name in (CANARY, SHADOW))
    sticky = STICKY in config.parameters and config.parameters[STICKY].string_value == "image"
    return Rollout(version, canary, sticky, shadow)


def _parse_share(text: str) -> tuple[int, float] | None:
    version, _, share = text.partition(" ")
    try:
        number, fraction = int(version), float(share)
    except ValueError:
        return None
    return (number, fraction) if number > 0 and 0 < fraction <= 1 else None


def choose(rollout: Rollout, images: Sequence[Pixels | InvalidImageError], draw: float) -> list[bool]:
    """Choose which images of a call the candidate answers: all or none of them, unless the rollout is sticky.

    Args:
        rollout: the rollout.
        images: the images as they are prepared for the live version; unreadable ones are never sent.
        draw: a random number from 0 to below 1, which belongs to the call.
    """
    if not rollout.canary:
        return [False] * len(images)
    if not rollout.sticky:
        return [draw < rollout.canary] * len(images)
    return [
        not isinstance(image, InvalidImageError) and hash_image(image, rollout.version) < rollout.canary
        for image in images
    ]


def hash_image(image: Pixels, version: int) -> float:
    """A number from 0 to below 1 that depends on nothing but the content of an image and the version of a candidate.

    Each candidate gets other images, so that the same ones are not always the first to meet a new version.

    Args:
        image: uint8, contiguous.
        version: the version of the candidate.
    """
    digest = hashlib.blake2b(image.data, digest_size=8, key=str(version).encode()).digest()
    # As many bits as a float holds, so that no hash is rounded up to 1.
    return math.ldexp(int.from_bytes(digest) >> 11, -53)
