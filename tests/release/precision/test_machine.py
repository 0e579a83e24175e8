"""The machine on which a precision is chosen."""

from __future__ import annotations

import json
import platform

import onnxruntime as ort
import pytest

from tamiz_release.precision.machine import describe_machine, saturates


def test_the_machine_is_its_processor_its_instructions_and_its_runtime() -> None:
    machine = describe_machine()
    assert machine["processor"]
    assert machine["onnxruntime"] == ort.__version__
    assert json.loads(json.dumps(machine)) == describe_machine(), "the same each time, also as JSON"


def test_sums_saturate_on_an_x86_processor_without_instructions_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    has_them = not {"avx512_vnni", "avx_vnni", "amx_int8"}.isdisjoint(describe_machine()["instructions"])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert saturates() != has_them
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not saturates()
