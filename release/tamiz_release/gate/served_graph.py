"""A graph as a server runs it: in the session of the backend, with the settings of the model's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tamiz.errors import ExportError, one_line
from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from tamiz_server.serving_session import computes_on_gpu, find_missing_gpu, open_serving_session
from tamiz_train.metrics import Probabilities

OpenSession: TypeAlias = Callable[..., Any]
"""Opens the session that serves a graph, as `tamiz_server.serving_session.open_serving_session` does."""

_TOLERANCE = 0.02
"""The largest difference of the probabilities of an image alone and in a batch; FP16 kernels differ by batch size."""


class ServedGraph:
    """A graph in the session that will serve it.

    Where this machine cannot run that session because it lacks the GPU or the runtime of an accelerator, the graph is
    in a session on the CPU instead, which shows what the graph computes, and nothing of the speed.

    Args:
        graph: path of the ONNX file.
        spec: spec of the graph.
        config: the model's configuration, ``config.pbtxt`` as JSON.
        open_session: opens the session.

    Attributes:
        not_run: why the session that will serve the graph was not run: the accelerator and what is missing; None if it
            was run.

    Raises:
        ExportError: the graph cannot be loaded, or a setting cannot be honoured on this machine.
    """

    def __init__(
        self, graph: Path, spec: ModelSpec, config: Mapping[str, Any], open_session: OpenSession = open_serving_session
    ) -> None:
        self.spec = spec
        self.largest_batch = max(1, int(config.get("max_batch_size", 0)))
        self._path = graph
        self._batched = int(config.get("max_batch_size", 0)) > 0
        self.not_run = find_missing_gpu(config)
        if self.not_run is None:
            self._session = open_session(graph, config, gpu=0 if computes_on_gpu(config) else None)
        else:
            self._session = open_session(graph, _without_gpu(config), gpu=None)
        parameter = config.get("parameters", {}).get("micro_batch_size", {}).get("string_value", "")
        # As the backend computes a batch on a CPU.
        self._part = int(parameter) if parameter.isdecimal() and int(parameter) else self.largest_batch

    def probabilities(self, images: Pixels) -> Probabilities:
        """Compute images in the batches in which the backend computes them.

        Args:
            images: uint8 ``[images, height, width, channels]``.

        Returns:
            float32 ``[images, labels]``.

        Raises:
            ExportError: the session fails.
        """
        size = min(self._part, self.largest_batch)
        return np.concatenate([self._run(images[start : start + size]) for start in range(0, len(images), size)])

    def find_problem(self) -> str | None:
        """Why a server could not answer with this graph, tried with batches of several sizes; None if it could."""
        (image,) = inputs if len(inputs := self._session.get_inputs()) == 1 else (None,)
        if image is None or image.name != INPUT_NAME or image.type != "tensor(uint8)":
            found = ", ".join(f"{each.name} {each.type}" for each in inputs)
            return f"its inputs are {found}; a version has one, {INPUT_NAME} of uint8"
        if self._batched and isinstance(image.shape[0], int):
            return f"its batch size is fixed at {image.shape[0]}; config.pbtxt has batches up to {self.largest_batch}"
        noise = np.random.default_rng(0).integers(
            0, 256, (self.largest_batch, *self.spec.preprocessing.shape), dtype=np.uint8
        )
        alone = []
        for size in sorted({1, min(2, self.largest_batch), self.largest_batch}):
            try:
                answers = self._run(noise[:size])
            except ExportError as exc:
                return str(exc)
            if answers.shape != (size, len(self.spec.labels)) or answers.dtype != np.float32:
                return (
                    f"its output for a batch of {size} is {answers.dtype} {list(answers.shape)}; "
                    f"{len(self.spec.labels)} labels need one row of float32 per image"
                )
            alone.append(answers[:1])
        # NaN is found on real images, and has a message of its own.
        if any((np.abs(answer - alone[0]) > _TOLERANCE).any() for answer in alone):
            return "its answer for an image depends on the other images of the batch"
        return None

    def _run(self, images: Pixels) -> Probabilities:
        try:
            (answers,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})
        except Exception as exc:
            # ONNX Runtime has an error class for each way in which a graph can be wrong.
            raise ExportError(f"it cannot compute a batch of {len(images)}: {one_line(exc)[:300]}") from exc
        return answers  # type: ignore[no-any-return]


def _without_gpu(config: Mapping[str, Any]) -> dict[str, Any]:
    optimization = config["optimization"]
    accelerators = {**optimization["execution_accelerators"], "gpu_execution_accelerator": []}
    return {**config, "optimization": {**optimization, "execution_accelerators": accelerators}}
