"""The gateway under load while versions are switched and Triton is killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from gateways import running
from graphs import even, make_spec, write_grey_graph

from tamiz_gateway import Settings
from tamiz_server import Repository, Triton

pytestmark = pytest.mark.integration

USERS = 64
SWITCHES = 20


def test_no_label_is_wrong_while_versions_are_switched_and_triton_is_killed(tmp_path: Path) -> None:
    import cv2

    repository = Repository(tmp_path / "model_repository")
    # Two versions with other labels and sizes: a wrong one of either would show.
    for version, (size, classes) in enumerate(((28, 10), (20, 6)), start=1):
        spec = make_spec([f"v{version} {index}" for index in range(classes)], height=size, width=size)
        repository.publish("grey", write_grey_graph(tmp_path / f"{version}.onnx", spec), spec)
    images = {
        index: cv2.imencode(".png", even(index, 10))[1].tobytes() for index in (0, 9)
    }  # the first and the last label of both versions
    last = {1: 9, 2: 5}
    statuses: Counter[int] = Counter()
    wrong: list[object] = []
    stop = threading.Event()

    def use(port: int, user: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        count = user
        while not stop.is_set():
            count += 1
            index = (0, 9)[count % 2]
            connection.request("POST", "/v1/models/grey:classify", images[index], {"content-type": "image/png"})
            reply = connection.getresponse()
            document = json.loads(reply.read())
            statuses[reply.status] += 1
            if reply.status == 200:
                version = document["version"]
                expected = f"v{version} {0 if index == 0 else last[version]}"
                if document["label"] != expected:
                    wrong.append((expected, document))
            elif reply.status != 503:
                wrong.append((reply.status, document))
        connection.close()

    with Triton(repository.path, on_progress=lambda line: None) as triton:
        settings = Settings(
            model="grey", url=triton.url, repository=repository.path, triton_key=triton.key, max_requests=USERS + 10
        )
        with running(settings) as gateway:
            users = [threading.Thread(target=use, args=(gateway.port, user)) for user in range(USERS)]
            for user in users:
                user.start()
            try:
                switch(gateway.post_json, SWITCHES // 2)
                for _ in range(2):
                    os.kill(triton.pid, signal.SIGKILL)
                    time.sleep(0.3)
                    wait_until(lambda: gateway.get("/readyz").status == 200)
                answered = statuses[200]
                wait_until(lambda: statuses[200] > answered + USERS)
                switch(gateway.post_json, SWITCHES // 2)
            finally:
                stop.set()
                for user in users:
                    user.join(60)
    assert not wrong, wrong[:3]
    assert set(statuses) <= {200, 503}
    assert statuses[200] > 20 * USERS


def switch(post_json: Callable[..., object], times: int) -> None:
    for number in range(times):
        answer = post_json("/switch_model", {"model_id": f"grey/{2 - number % 2}"})
        assert answer.status == 200, answer.content
        time.sleep(0.1)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
