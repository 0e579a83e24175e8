"""A bench in memory: the speed and the accuracy of each graph follow from the nodes that stay in FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tamiz_release.precision.budget import Budget
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
        self.budget = Budget(steps, clock=lambda: self.taken)
        self.measured: list[Any] = []
        self._speed, self._loss = speed, loss

    def speeds(self, settings: Sequence[Any]) -> list[float]:
        with self.budget.step("speeds", len(settings)):
            # FP32 is measured beside them.
            self.taken += len(settings) + 1
        return [self._speed(setting) for setting in settings]

    def loss(self, setting: Any) -> float:
        with self.budget.step("losses"):
            self.taken += 1
        self.measured.append(setting)
        return self._loss(setting)

    def deviation(self, setting: Any) -> float:
        return self._loss(setting) / 100
