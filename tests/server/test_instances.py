from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

from fleet import until

from tamiz_server.control import Control
from tamiz_server.instances import Instance, Instances, bring_back

NOBODY = "grpc://127.0.0.1:1"


def instance_of(folder: Path) -> Instance:
    return Instance(folder / "pets" / "3" / "model.onnx", "pets_0_1")


def test_an_instance_knows_its_model_and_version(tmp_path: Path) -> None:
    instance = instance_of(tmp_path)
    assert (instance.model, instance.version) == ("pets", 3)


def test_children_that_are_no_stubs_are_no_instances() -> None:
    assert Instances(os.getpid()).running() == set()


def test_the_instances_that_were_found_still_run_until_one_of_them_ends() -> None:
    arguments = ["triton_python_backend_stub", "-c", "read line", *"abcde", "pets_0_0"]
    instances = Instances(os.getpid())
    with subprocess.Popen(arguments, executable="/bin/sh", stdin=subprocess.PIPE) as stub:
        try:
            until(lambda: {instance.name for instance in instances.running()} == {"pets_0_0"})
            assert instances.still_run()
            os.kill(stub.pid, signal.SIGKILL)
            until(lambda: not instances.still_run())
            assert instances.running() == set()
            assert instances.still_run()
        finally:
            stub.kill()


def test_a_server_may_end_at_any_moment_while_its_instances_are_looked_for() -> None:
    for _ in range(100):
        process = subprocess.Popen(["sleep", "0.005"])
        instances = Instances(process.pid)
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        while reaper.is_alive():
            assert instances.running() == set()


def test_a_server_that_does_not_answer_is_the_reason(tmp_path: Path) -> None:
    with Control(NOBODY) as control:
        problem = bring_back(instance_of(tmp_path), control)
    assert problem is not None
    assert "127.0.0.1:1" in problem


def test_a_configuration_that_cannot_be_read_is_the_reason(tmp_path: Path) -> None:
    instance = instance_of(tmp_path)
    instance.file.parent.mkdir(parents=True)
    (tmp_path / "pets" / "config.pbtxt").write_text("instance_group {")
    with Control(NOBODY) as control:
        problem = bring_back(instance, control)
    assert problem is not None
    assert "config.pbtxt: not a model configuration" in problem
