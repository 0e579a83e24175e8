from __future__ import annotations

import pytest

import tamiz
from tamiz_bench.machine import describe_machine, steal_fraction


def test_the_machine_is_described_by_its_processor_and_software() -> None:
    machine = describe_machine()
    assert set(machine) == {"time", "processor", "system", "python", "tamiz", "onnxruntime"}
    assert machine["tamiz"] == tamiz.__version__
    assert all(machine.values())


@pytest.mark.parametrize(
    ("after", "fraction"),
    [
        ((6, 0, 0, 4, 0, 0, 0, 0, 0, 0), 0.0),
        ((6, 0, 0, 0, 0, 0, 0, 4, 0, 0), 0.4),
        # Guest time is part of user time and must not count twice.
        ((6, 0, 0, 0, 0, 0, 0, 4, 6, 0), 0.4),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0.0),
    ],
    ids=["none", "some", "with guests", "empty interval"],
)
def test_steal_time_is_a_fraction_of_all_cpu_time(after: tuple[float, ...], fraction: float) -> None:
    assert steal_fraction((0.0,) * 10, after) == fraction
