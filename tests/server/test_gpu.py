"""The GPU of this machine, as NVIDIA's driver describes it."""

from __future__ import annotations

import pytest

from tamiz_server.gpu import Gpu, find_gpu, parse_gpu


def test_the_first_gpu_is_described_by_name_compute_capability_and_driver() -> None:
    text = "NVIDIA L4, 8.9, 570.86.15\nNVIDIA L4, 8.9, 570.86.15\n"
    assert parse_gpu(text) == Gpu("NVIDIA L4", "8.9", "570.86.15")


def test_a_name_may_have_commas() -> None:
    assert parse_gpu("NVIDIA GB200, 192 GB, 10.0, 580.1\n") == Gpu("NVIDIA GB200, 192 GB", "10.0", "580.1")


@pytest.mark.parametrize("text", ["", "\n", "No devices were found", "NVIDIA L4, 8.9", ", , "])
def test_another_answer_describes_no_gpu(text: str) -> None:
    assert parse_gpu(text) is None


def test_a_machine_without_the_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_gpu() is None
