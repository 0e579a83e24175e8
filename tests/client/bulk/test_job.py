from __future__ import annotations

from collections.abc import Iterable, Iterator

from tamiz import InvalidImageError
from tamiz.bulk.inputs import Input
from tamiz.bulk.job import classify_inputs


class ReadingAhead:
    """A client that reads some images ahead and gives each image itself as its outcome."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead

    def classify_many(self, images: Iterable[object], **_: object) -> Iterator[object]:
        waiting: list[object] = []
        for image in images:
            waiting.append(image)
            if len(waiting) > self.ahead:
                yield waiting.pop(0)
        yield from waiting


def test_outcomes_and_unreadable_inputs_keep_the_order_of_the_inputs() -> None:
    errors = {number: InvalidImageError(f"error {number}") for number in (0, 3, 4, 9)}
    inputs = [Input(f"image {number}", errors.get(number, b"%d" % number)) for number in range(10)]
    for ahead in (0, 1, 5, 20):
        outcomes = classify_inputs(ReadingAhead(ahead), iter(inputs), top_k=1, in_flight=None)  # type: ignore[arg-type]
        assert list(outcomes) == [(name, source) for name, source in inputs]


def test_a_job_of_unreadable_inputs_alone_yields_their_errors() -> None:
    inputs = [Input("a.tar", InvalidImageError("unreadable")), Input("b.tar", InvalidImageError("unreadable"))]
    outcomes = list(classify_inputs(ReadingAhead(1), iter(inputs), top_k=1, in_flight=None))  # type: ignore[arg-type]
    assert outcomes == inputs
