from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import make_spec, write_grey_graph

from tamiz import ModelSpec
from tamiz_bench.limit import InProcessLimit, LimitSetting, find_limit
from tamiz_bench.statistics import Measurement

SPEC = make_spec([f"grey {index}" for index in range(10)])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "grey.onnx", SPEC)


@pytest.mark.parametrize("setting", [LimitSetting(1, 1, 1), LimitSetting(2, 1, 4)], ids=str)
def test_the_limit_is_measured_for_the_given_duration(setting: LimitSetting, graph: Path, tmp_path: Path) -> None:
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.full((40, 30), 128, np.uint8))
    measurement = InProcessLimit(graph, SPEC, setting).measure([image], 0.3)
    assert 0.3 <= measurement.duration_s < 3
    assert measurement.images > 0
    assert measurement.images % setting.batch_size == 0


def test_a_setting_that_was_fast_only_in_its_trial_is_not_the_limit(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lucky, fastest = LimitSetting(1, 2, 1), LimitSetting(2, 1, 2)
    calls: Counter[LimitSetting] = Counter()

    class ScriptedLimit(InProcessLimit):
        def __init__(self, graph: Path, spec: ModelSpec, setting: LimitSetting) -> None:
            self.spec, self.setting = spec, setting

        def measure(self, images: Sequence[Path], duration_s: float) -> Measurement:
            calls[self.setting] += 1
            # The first call is the warm-up, the second one the trial.
            is_lucky_trial = self.setting == lucky and calls[lucky] == 2
            return Measurement(300 if is_lucky_trial else 200 if self.setting == fastest else 100, 1.0, 1, 1, 1)

    monkeypatch.setattr("tamiz_bench.limit.InProcessLimit", ScriptedLimit)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    lines: list[str] = []
    limit, trials = find_limit(graph, SPEC, [Path("image.png")], 8, 0.1, lines.append)
    assert limit.setting == fastest
    assert dict(trials)[lucky].images == 300
    assert f"limit, {lucky}: 300 images/s" in lines
    # So that nobody takes these rounds for those of --rounds.
    assert [line for line in lines if "round 1 of 3" in line]
    assert all(line.startswith("choosing the limit, round") for line in lines if "round" in line)
