from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Served
from graphs import grey_level, make_spec

from tamiz import UsageError
from tamiz.ray_data import Classify


def png(index: int) -> bytes:
    return cv2.imencode(".png", np.full((28, 28), grey_level(index, 10), np.uint8))[1].tobytes()


def test_a_batch_gets_labels_and_an_unreadable_image_gets_its_error(served: Served) -> None:
    classify = Classify(url=served.triton.url, model="grey")
    batch = {"bytes": np.array([png(3), b"broken", png(5)], object), "name": np.array(["a", "b", "c"])}
    done = classify(batch)
    assert done["label"].tolist() == ["grey 3", "", "grey 5"]
    assert done["error"][0] == ""
    assert "not an image" in done["error"][1]
    assert done["version"].tolist() == [1, 0, 1]
    assert np.isnan(done["score"][1])
    assert done["name"].tolist() == ["a", "b", "c"]


def test_a_multilabel_model_adds_the_labels_at_or_above_their_thresholds(served: Served) -> None:
    name = served.new_name()
    labels = [f"grey {index}" for index in range(10)]
    served.publish(name, make_spec(labels, task="multilabel", thresholds=(0.2,) * 10))
    done = Classify(url=served.triton.url, model=name)({"bytes": np.array([png(4), b"broken"], object)})
    assert done["labels"][0].split("|")[0] == "grey 4"
    assert done["labels"][1] == ""


def test_the_provenance_of_each_row_becomes_columns_on_request(served: Served) -> None:
    classify = Classify(url=served.triton.url, model="grey", provenance=True)
    done = classify({"bytes": np.array([png(3), b"broken"], object)})
    manifest = served.repository.live_version("grey").manifest
    assert done["onnx_sha256"].tolist() == [manifest["onnx_sha256"], ""]
    assert done["spec_sha256"].tolist() == [manifest["spec_sha256"], ""]
    assert (done["model"].tolist(), done["url"].tolist()) == (["grey", ""], [served.triton.url, ""])


def test_an_empty_batch_gets_the_same_columns(served: Served) -> None:
    done = Classify(url=served.triton.url, model="grey")({"bytes": np.array([], object)})
    assert {name: len(column) for name, column in done.items()} == dict.fromkeys(
        ("bytes", "label", "score", "version", "error"), 0
    )


def test_an_unknown_column_is_rejected_with_the_closest_name(served: Served) -> None:
    with pytest.raises(UsageError, match="unknown column: 'bytes'; did you mean 'byte'"):
        Classify(url=served.triton.url, model="grey")({"byte": np.array([png(1)], object)})


_JOB = """
import sys
import ray
from test_ray_data import png
from tamiz.ray_data import Classify

ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
rows = [{"number": number, "bytes": b"broken" if number == 7 else png(number % 10)} for number in range(2000)]
labelled = ray.data.from_items(rows, override_num_blocks=8).map_batches(
    Classify,
    fn_constructor_kwargs={"url": sys.argv[1], "model": "grey"},
    compute=ray.data.ActorPoolStrategy(size=2),
    batch_size=100,
).drop_columns(["bytes"])
labelled.write_parquet("labels")
"""


@pytest.mark.soak
def test_two_ray_workers_classify_a_data_set(served: Served, tmp_path: Path) -> None:
    # In a separate process, because Ray leaves processes and warnings behind in its own.
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", _JOB, served.triton.url],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [tests, tests / "client", *sys.path]))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # One table, although one block has an unreadable image.
    answers = {row["number"]: row for row in pq.read_table(tmp_path / "labels").to_pylist()}
    assert "not an image" in answers.pop(7)["error"]
    assert {number: row["label"] for number, row in answers.items()} == {
        number: f"grey {number % 10}" for number in range(2000) if number != 7
    }
