from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served

from tamiz_bench.benchmark import find_limit
from tamiz_bench.measure import Limit, Load, Measurement, Setting, measure_served


@pytest.fixture
def images(even_image: Callable[..., Path]) -> list[Path]:
    return [even_image(index) for index in range(10)]


@pytest.mark.parametrize("load", [Load(1, 1), Load(3, 1), Load(2, 8)])
def test_the_served_model_is_measured_over_the_time_given(load: Load, served: Served, images: list[Path]) -> None:
    with served.client("grey") as client:
        measured = measure_served(client, images, load, 0.3)
    assert 0.3 <= measured.seconds < 3
    assert measured.images > load.in_flight
    assert 0 < measured.p50_ms <= measured.p95_ms <= measured.p99_ms < 3000
    # Little's law: what is under way is throughput times latency; the median stands for the mean here.
    if load.batch_size == 1:
        assert measured.images_per_s * measured.p50_ms / 1000 < load.in_flight * 1.5


@pytest.mark.parametrize("setting", [Setting(1, 1, 1), Setting(2, 1, 4)])
def test_the_limit_is_measured_over_the_time_given(setting: Setting, served: Served, images: list[Path]) -> None:
    version = served.repository.live("grey")
    graph = served.repository.path / "grey" / "1" / "model.onnx"
    measured = Limit(graph, version.spec, setting).measure(images, 0.3)
    assert 0.3 <= measured.seconds < 3
    assert measured.images > 0
    assert measured.images % setting.batch_size == 0


def test_a_setting_that_did_well_once_is_not_the_limit(
    served: Served, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = served.repository.live("grey")
    graph = served.repository.path / "grey" / "1" / "model.onnx"
    lucky, best = Setting(1, 2, 1), Setting(2, 1, 2)
    asked: Counter[Setting] = Counter()

    def measure(limit: Limit, images: list[Path], seconds: float) -> Measurement:
        asked[limit.setting] += 1
        # The first time is to warm up, the second the trial.
        luck = limit.setting == lucky and asked[lucky] == 2
        return Measurement(300 if luck else 200 if limit.setting == best else 100, 1.0, 1, 1, 1)

    monkeypatch.setattr(Limit, "measure", measure)
    lines: list[str] = []
    limit, tried = find_limit(graph, version.spec, images, 8, 0.1, lines.append)
    assert limit.setting == best
    assert dict(tried)[lucky].images == 300
    assert f"limit, {lucky}: 300 images/s" in lines


def test_the_command_reports_served_beside_the_limit(
    served: Served, images: list[Path], tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    arguments = ["--model", "grey", "--repository", served.repository.path, "--url", served.triton.url]
    short = [
        "--seconds",
        0.1,
        "--rounds",
        2,
        "--in-flight",
        1,
        "--in-flight",
        2,
        "--out",
        tmp_path / "report",
    ]
    done = tamiz("bench", images[0].parent, *arguments, *short, "--json")
    assert done.returncode == 0, done.stderr
    assert "served ÷ limit = " in done.stdout
    document = json.loads(done.stdout.splitlines()[-1])
    assert document == json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(row["in_flight"], row["batch_size"]) for row in document["sweep"]] == [
        (1, 1),
        (2, 1),
        (1, 16),
        (2, 16),
    ]
    ratios = [s / b for s, b in zip(document["rounds"]["served"], document["rounds"]["limit"], strict=True)]
    assert min(ratios) <= document["served_to_limit"] <= max(ratios)
    assert (tmp_path / "report" / "report.png").stat().st_size > 10_000


def test_the_command_can_start_a_server_of_its_own(
    served: Served, images: list[Path], tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    short = ["--seconds", 0.1, "--rounds", 1, "--in-flight", 1, "--out", tmp_path / "report"]
    repository = tmp_path / "models"
    graph = served.repository.path / "grey" / "1" / "model.onnx"
    from tamiz_server.repository import Repository

    Repository(repository).publish("grey", graph, served.repository.live("grey").spec)
    done = tamiz("bench", images[0], "--model", "grey", "--repository", repository, "--serve", *short)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "--model", "grey"], "none.png: no such file"),
        (["EMPTY", "--model", "grey"], "no images in"),
        (["EMPTY", "--model", "grey", "--seconds", "0"], "--seconds"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tamiz("bench", *[str(tmp_path) if argument == "EMPTY" else argument for argument in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
