"""The rescue of a graph that lost too much accuracy: parts of it are given back to FP32, the most harmful first.

That is the idea of accuracy-aware quantization, as in NNCF's ``quantize_with_accuracy_control``. How harmful a part is
is the deviation from FP32 that disappears when it alone is computed in FP32: unlike accuracy, it differs between all
parts also where there are few images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from .budget import Budget
from .network import Network


class Setting(Protocol):
    """How a graph of lower precision is made."""

    @property
    def float_nodes(self) -> frozenset[str]:
        """Names of the nodes that stay in FP32."""

    def keep(self, nodes: frozenset[str]) -> Self:
        """The same with further nodes in FP32."""


S = TypeVar("S", bound=Setting)
S_contra = TypeVar("S_contra", bound=Setting, contravariant=True)


class Bench(Protocol[S_contra]):
    """Measures graphs of lower precision.

    Attributes:
        limit: the largest allowed `loss`.
        budget: the time that the search has.
    """

    limit: float
    budget: Budget

    def speeds(self, settings: Sequence[S_contra]) -> list[float]:
        """Speed of each graph as a ratio to that of the FP32 graph, measured in interleaved rounds."""

    def loss(self, setting: S_contra) -> float:
        """What a graph loses, in points; infinite if an output is not finite."""

    def deviation(self, setting: S_contra) -> float:
        """How far the probabilities of a graph are from those of the FP32 graph, from 0 to 1."""


@dataclass(frozen=True)
class Part:
    """A part of the network that stays in FP32.

    Attributes:
        name: what it is, for people.
        nodes: names of its nodes.
        reason: why it stays in FP32.
    """

    name: str
    nodes: frozenset[str]
    reason: str


@dataclass(frozen=True)
class Trial(Generic[S]):
    """A measured graph.

    Attributes:
        setting: how it is made.
        speed: speed as a ratio to that of the FP32 graph.
        parts: the parts of the network that stay in FP32, in the order in which that was decided.
    """

    setting: S
    speed: float
    parts: tuple[Part, ...] = ()


def rescue(
    network: Network,
    bench: Bench[S],
    trial: Trial[S],
    *,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Trial[S] | None:
    """Give parts of a network back to FP32, the most harmful first, until the accuracy holds.

    Args:
        network: the network.
        bench: measures graphs.
        trial: the graph that loses too much.
        on_progress: called with a line of text after each step.

    Returns:
        the graph that keeps the accuracy; None if the time was too short, or no layer can be of lower precision.
    """
    before = bench.deviation(trial.setting)
    blocks = [(n, block) for n, block in enumerate(network.blocks(), 1) if block - trial.setting.float_nodes]
    # The harm of all blocks, a graph without the most harmful one, and its speed: less than that gives no result.
    if not bench.budget.fits(losses=len(blocks) + 1, speeds=1):
        bench.budget.leave_out(f"which of {len(blocks)} blocks to give back to FP32")
        return None
    harms = [(before - bench.deviation(trial.setting.keep(block)), number, block) for number, block in blocks]
    setting, parts = trial.setting, list(trial.parts)
    for harm, number, block in sorted(harms, key=lambda each: -each[0]):
        if not bench.budget.fits(losses=1, speeds=1):
            bench.budget.leave_out(f"giving more than {len(parts) - len(trial.parts)} blocks back to FP32")
            return None
        parts.append(
            Part(f"block {number}", block - setting.float_nodes, f"accuracy: it adds {harm:.4f} to the deviation")
        )
        setting = setting.keep(block)
        if not network.layers() - setting.float_nodes:
            # It would be the FP32 graph again.
            return None
        loss = bench.loss(setting)
        on_progress(f"blocks given back to FP32, {len(parts) - len(trial.parts)}: loses {loss:.2f} points")
        if loss <= bench.limit:
            return Trial(setting, bench.speeds([setting])[0], tuple(parts))
    return None
