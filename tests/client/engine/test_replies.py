from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from graphs import make_spec

from tamiz import errors
from tamiz.engine.replies import read_predictions
from tamiz.served_version import ServedVersion
from tamiz.transports.requests import InferReply, OutputTensor

SPEC = make_spec(["cat", "dog"], height=2, width=3)
SERVED = ServedVersion("pets", 7, SPEC, 8)


def reply(values: Sequence[Sequence[float]], version: str = "7") -> InferReply:
    array = np.array(values, np.float32)
    return InferReply(version, (OutputTensor("probabilities", "FP32", array.shape, array.tobytes()),))


def test_a_reply_becomes_predictions_with_the_versions_labels() -> None:
    first, second = read_predictions(reply([[0.9, 0.1], [0.2, 0.8]]), SERVED, [0, 1], top_k=5, url="")
    assert (first.label, second.label) == ("cat", "dog")
    assert [scored.label for scored in second.top] == ["dog", "cat"]
    assert second.score == pytest.approx(0.8)
    assert second.version == 7
    assert [first.position, second.position] == [0, 1]


def test_of_equal_probabilities_the_first_label_wins_for_any_top_k() -> None:
    for top_k in (1, 2):
        (prediction,) = read_predictions(reply([[0.5, 0.5]]), SERVED, [0], top_k=top_k, url="")
        assert prediction.label == "cat"


def test_multilabel_predictions_hold_all_labels_at_or_above_their_thresholds() -> None:
    spec = make_spec(["cat", "dog", "cow"], height=2, width=3, task="multilabel", thresholds=(0.5, 0.25, 0.75))
    served = ServedVersion("pets", 7, spec, 8)
    (prediction,) = read_predictions(reply([[0.5, 0.9, 0.7]]), served, [0], top_k=1, url="")
    assert [scored.label for scored in prediction.labels] == ["dog", "cat"]


@pytest.mark.parametrize(
    ("message", "count"),
    [
        pytest.param(reply([[0.9, 0.1]], version="8"), 1, id="of another version"),
        pytest.param(reply([[0.9, 0.1]]), 2, id="for fewer images"),
        pytest.param(reply([[0.9, 0.1, 0.0]]), 1, id="with more classes"),
        pytest.param(InferReply("7", ()), 1, id="empty"),
        pytest.param(InferReply("7", (OutputTensor("probabilities", "FP32", (1, 2), b"1234"),)), 1, id="truncated"),
    ],
)
def test_a_reply_that_does_not_fit_the_request_is_an_error(message: InferReply, count: int) -> None:
    with pytest.raises(errors.InferenceError, match="expected probabilities .* from version 7, got"):
        read_predictions(message, SERVED, range(count), top_k=1, url="")
