from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import use_terminal

from tamiz import RunError
from tamiz_train.recipe import Recipe
from tamiz_train.training import train

SHORT = ["train.epochs=1", "train.batch_size=60", "data.subset_size=120"]


def test_a_terminal_shows_the_images_of_each_part_of_an_epoch(
    tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = use_terminal(monkeypatch)
    lines: list[str] = []
    train(tiny_recipe(*SHORT), lines.append)
    shown = terminal.lines
    rate_and_time = r"[\d,]+ images/s, 0:00:0\d"
    # Before the second batch, the remaining time is unknown.
    assert any(re.match(r"epoch 1/1 .* 60/120 +[\d,]+ images/s, -:--:--", line) for line in shown)
    assert any(re.match(rf"epoch 1/1 .* 120/120 +{rate_and_time}", line) for line in shown)
    assert any(re.match(rf"epoch 1/1, validation .* (\d+)/\1 +{rate_and_time}", line) for line in shown)
    # The best epoch is evaluated at the end.
    assert any(re.match(rf"test .* 360/360 +{rate_and_time}", line) for line in shown)
    assert any(line.startswith("epoch 1/1: ") for line in lines)


def test_the_bar_is_removed_before_an_error_is_shown(
    tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = use_terminal(monkeypatch)
    diverging = ["train.optimizer={name: SGD, lr: 1e30}", "train.schedule=null", f"runs_dir={tmp_path}"]
    with pytest.raises(RunError, match="diverged"):
        train(tiny_recipe(*SHORT, *diverging))
    erase_line = "\x1b[2K"
    assert terminal.getvalue().rstrip().endswith(erase_line)


def test_nothing_but_the_lines_of_the_epochs_is_shown_on_a_pipe(
    tiny_recipe: Callable[..., Recipe], capfd: pytest.CaptureFixture[str]
) -> None:
    train(tiny_recipe(*SHORT))
    assert capfd.readouterr() == ("", "")
