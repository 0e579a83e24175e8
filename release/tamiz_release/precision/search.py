"""The search for the fastest graph that keeps the accuracy: which nodes stay in FP32, and how ranges are found.

Speed is not what the number of quantized operators suggests: on MobileNetV2, two convolutions in FP32 make the graph
1.4 times as fast; on ResNet-50 the same two make it slower. So the search measures each step. When the fastest graph
loses too much accuracy, other ranges are tried, and then parts of the network are given back to FP32
(`tamiz_release.precision.rescue`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from .int8 import Quantization
from .network import Network
from .rescue import Bench, Part, Trial, rescue

WORTHWHILE = 1.02
"""A change must make a graph so much faster to be kept: less is within the error of the measurement."""

_FAST_SHARE = 0.5
"""The share of the time budget after which no faster graph is looked for, since the accuracy must be measured too."""

_MOST_RESCUED = 2
"""How many of the fastest graphs are tried if the fastest one cannot keep the accuracy."""


@dataclass(frozen=True)
class _Fast:
    """A graph on the way to the fastest one."""

    quantization: Quantization
    speed: float
    parts: tuple[Part, ...] = ()


def search(
    network: Network,
    bench: Bench[Quantization],
    *,
    saturates: bool,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Trial[Quantization] | None:
    """Find the fastest quantization that keeps the accuracy.

    Args:
        network: the network.
        bench: measures quantizations.
        saturates: whether sums of products of 8 bits can saturate on this processor, so that weights of 7 bits may be
            more accurate.
        on_progress: called with a line of text after each step.

    Returns:
        the fastest quantization that keeps the accuracy; None if none was found in time.
    """
    best: Trial[Quantization] | None = None
    fastest_first = sorted(_climb(network, bench, on_progress), key=lambda fast: -fast.speed)
    for number, fast in enumerate(fastest_first[:_MOST_RESCUED]):
        if best is not None and fast.speed <= best.speed * WORTHWHILE:
            break
        if number and not bench.budget.fits(losses=1, speeds=1):
            bench.budget.leave_out("the accuracy of the next fastest graph")
            break
        trial = _make_accurate(network, bench, fast, saturates, on_progress)
        if trial is not None and (best is None or trial.speed > best.speed):
            best = trial
    return best


def search_symmetric(
    network: Network,
    bench: Bench[Quantization],
    *,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Trial[Quantization] | None:
    """Find a symmetric quantization that keeps the accuracy; its speed on a GPU cannot be measured on a CPU.

    The arguments and the result are those of `search`.
    """
    start = _Fast(Quantization(symmetric=True), 1.0)
    return _make_accurate(network, bench, start, False, on_progress)


def _climb(network: Network, bench: Bench[Quantization], on_progress: Callable[[str], None]) -> Iterator[_Fast]:
    """Climb to the fastest quantization; yield each that was kept on the way."""
    current = Quantization()
    fast = _Fast(current, bench.speeds([current])[0])
    on_progress(f"INT8 of all operators: {fast.speed:.2f} × FP32")
    yield fast
    for repeated, moves in _moves(network):
        while (improved := _improve(network, fast, moves, bench)) is not None:
            fast = improved
            on_progress(f"{fast.parts[-1].name} in FP32: {fast.speed:.2f} × FP32")
            yield fast
            if not repeated:
                break


def _improve(
    network: Network, fast: _Fast, moves: dict[str, frozenset[str]], bench: Bench[Quantization]
) -> _Fast | None:
    """Keep the part in FP32 that makes the graph fastest, if one makes it faster."""
    useful = {name: nodes - fast.quantization.float_nodes for name, nodes in moves.items()}
    # A graph without a layer in INT8 would be the FP32 graph again.
    useful = {
        name: nodes
        for name, nodes in useful.items()
        if nodes and network.layers() - fast.quantization.float_nodes - nodes
    }
    # Together with the current graph.
    while useful and not bench.budget.fits(speeds=len(useful) + 1, share=_FAST_SHARE):
        name, _ = useful.popitem()
        bench.budget.leave_out(f"{name} in FP32")
    if not useful:
        return None
    tried = [fast.quantization.keep(nodes) for nodes in useful.values()]
    # Together with the current one, because the speed of a machine changes over time.
    current_speed, *speeds = bench.speeds([fast.quantization, *tried])
    best = max(range(len(tried)), key=speeds.__getitem__)
    if speeds[best] <= current_speed * WORTHWHILE:
        return None
    name = list(useful)[best]
    part = Part(name, useful[name], f"{speeds[best]:.2f} × FP32 instead of {current_speed:.2f}")
    return _Fast(tried[best], speeds[best], (*fast.parts, part))


def _moves(network: Network) -> Iterator[tuple[bool, dict[str, frozenset[str]]]]:
    """Groups of parts of the network, by name, that might be faster in FP32.

    Of a group, the best part is taken; if the first value is true, the group is tried until no part is better.
    """
    firsts = {f"the first {count} layers": network.first_layers(count) for count in (2, 3, 5)}
    yield False, {"the first layer": network.first_layers(1), **firsts}
    operators = {f"all {operator}": nodes for operator, nodes in network.operators().items()}
    yield (
        True,
        {
            **operators,
            "all operators without weights": network.without_weights(),
            "all maps of one pixel": network.pooled(),
            "the last layer": network.last_layer(),
        },
    )


def _make_accurate(
    network: Network,
    bench: Bench[Quantization],
    fast: _Fast,
    saturates: bool,
    on_progress: Callable[[str], None],
) -> Trial[Quantization] | None:
    """The quantization itself, with other ranges, or rescued; None if it cannot be made accurate in time."""
    deviations: dict[Quantization, float] = {}
    for variant in _variants(fast.quantization, saturates, deviations):
        # The first one is measured in any case, since there is no result without it.
        if deviations and not bench.budget.fits(losses=1, speeds=1):
            bench.budget.leave_out(f"{variant}, and what would follow")
            return None
        loss, deviations[variant] = bench.loss(variant), bench.deviation(variant)
        on_progress(f"{variant}: loses {loss:.2f} points, deviates by {deviations[variant]:.4f}")
        if loss <= bench.limit:
            speed = fast.speed if variant == fast.quantization else bench.speeds([variant])[0]
            return Trial(variant, speed, fast.parts)
    best = min(deviations, key=deviations.__getitem__)
    return rescue(network, bench, Trial(best, fast.speed, fast.parts), on_progress=on_progress)


def _variants(
    quantization: Quantization, saturates: bool, deviations: Mapping[Quantization, float]
) -> Iterator[Quantization]:
    """The quantization itself, and with other ranges.

    Args:
        quantization: the quantization.
        saturates: whether to try weights of 7 bits.
        deviations: the deviation of each variant, which the caller adds before it asks for the next one.
    """
    yield quantization
    if saturates:
        yield replace(quantization, reduce_range=True)
    quantization = min(deviations, key=deviations.__getitem__)
    yield replace(quantization, method="percentile")
    yield replace(quantization, method="entropy")
    # Some networks suffer from scales per channel (MobileNetV3: microsoft/onnxruntime#11415).
    yield replace(quantization, per_channel=False)
