from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from fleet import MODEL, Fleet

from tamiz_server.config import ServingSettings

pytestmark = pytest.mark.integration


def test_no_image_is_lost_when_one_of_the_servers_is_killed(
    example: Callable[[str], ModuleType],
    even_image: Callable[..., Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for index in range(160):
        even_image(index % 10, name=f"{index:03}.png")
    settings = ServingSettings(max_batch_size=4)
    with Fleet(tmp_path_factory.mktemp("servers"), 2, seconds=0.02, settings=settings) as fleet:
        killing = threading.Timer(0.4, fleet.kill, [1])
        killing.start()
        answered, stats = example("several_servers").classify_with(fleet.url, MODEL, tmp_path)
        killing.join()
        first, second = (server.url for server in fleet.servers)
    assert answered.total() == stats.images == 160
    assert answered[first]
    assert answered[second]
    labels = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines() if "://" not in line)
    assert labels == {str(index): f"grey {index % 10} 1" for index in range(160)}
