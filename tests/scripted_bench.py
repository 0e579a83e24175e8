"""A bench in memory: the speed and the accuracy of each graph follow from the nodes that stay in FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tamiz_release.precision.int8 import Quantization


class ScriptedBench:
    """A bench whose figures are functions of the quantization; each measurement takes one step of the budget."""

    def __init__(
        self,
        speed: Callable[[Quantization], float] = lambda quantization: 1.5,
        loss: Callable[[Quantization], float] = lambda quantization: 0.0,
        *,
        limit: float = 0.5,
        steps: int = 10**6,
    ) -> None:
        self.limit = limit
        self.taken = 0
        self.measured: list[Any] = []
        self._speed, self._loss, self._steps = speed, loss, steps

    def speeds(self, settings: Sequence[Any]) -> list[float]:
        self.taken += len(settings)
        return [self._speed(setting) for setting in settings]

    def loss(self, setting: Any) -> float:
        self.taken += 1
        self.measured.append(setting)
        return self._loss(setting)

    def deviation(self, setting: Any) -> float:
        return self._loss(setting) / 100

    def remaining(self) -> float:
        return 1 - self.taken / self._steps
