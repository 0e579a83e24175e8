from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import Served
from graphs import grey_level, make_spec

from tamiz.ray_data import Classify


def png(index: int) -> bytes:
    return cv2.imencode(".png", np.full((28, 28), grey_level(index, 10), np.uint8))[1].tobytes()


def test_a_batch_gets_its_labels_and_a_broken_image_its_error(served: Served) -> None:
    classify = Classify(url=served.triton.url, model="grey")
    batch = {"bytes": np.array([png(3), b"broken", png(5)], object), "name": np.array(["a", "b", "c"])}
    done = classify(batch)
    assert list(done["label"]) == ["grey 3", None, "grey 5"]
    assert done["error"][0] is None
    assert "not an image" in done["error"][1]
    assert done["version"].tolist() == [1, 0, 1]
    assert np.isnan(done["score"][1])
    assert done["name"].tolist() == ["a", "b", "c"]


def test_a_model_of_several_labels_gives_those_over_their_thresholds(served: Served) -> None:
    name = served.new_name()
    labels = [f"grey {index}" for index in range(10)]
    served.publish(name, make_spec(labels, task="multilabel", thresholds=(0.2,) * 10))
    done = Classify(url=served.triton.url, model=name)({"bytes": np.array([png(4), b"broken"], object)})
    assert done["labels"][0][0] == "grey 4"
    assert done["labels"][1] == []


@pytest.mark.soak
def test_two_workers_of_ray_classify_a_data_set(served: Served) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        rows = [{"number": number, "bytes": png(number % 10)} for number in range(2000)]
        labelled = ray.data.from_items(rows, override_num_blocks=8).map_batches(
            Classify,
            fn_constructor_kwargs={"url": served.triton.url, "model": "grey"},
            concurrency=2,
            batch_size=100,
        )
        answers = {row["number"]: row["label"] for row in labelled.take_all()}
    finally:
        ray.shutdown()
    assert answers == {number: f"grey {number % 10}" for number in range(2000)}
