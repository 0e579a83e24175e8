"""The predictions in the reply of a server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InferenceError
from ..prediction import Prediction, Provenance, interpret
from ..served_version import ServedVersion
from ..spec import OUTPUT_NAME
from ..transports.requests import InferReply


def read_predictions(
    reply: InferReply,
    served: ServedVersion,
    positions: Sequence[int],
    *,
    top_k: int,
    url: str,
    provenance: Provenance | None = None,
) -> list[Prediction]:
    """The predictions in a reply.

    Args:
        reply: the reply of the server.
        served: the version that was requested.
        positions: positions of the images in the caller's input.
        top_k: how many labels `Prediction.top` holds.
        url: URL of the server, for the error.
        provenance: what `Prediction.provenance` holds.

    Raises:
        InferenceError: the reply is not from that version, or does not have the shape ``[images, classes]``.
    """
    shape = (len(positions), len(served.spec.labels))
    fits = (
        reply.version == str(served.version)
        and len(reply.outputs) == 1
        and reply.outputs[0].shape == shape
        and reply.outputs[0].datatype == "FP32"
        and len(reply.outputs[0].content) == 4 * shape[0] * shape[1]
    )
    if not fits:
        outputs = ", ".join(f"{output.name} {output.datatype} {list(output.shape)}" for output in reply.outputs)
        raise InferenceError(
            f"model {served.model}: expected {OUTPUT_NAME} FP32 {list(shape)} from version {served.version}, "
            f"got {outputs or 'no output'} from version {reply.version}",
            model=served.model,
            version=served.version,
            url=url,
        )
    probabilities = np.frombuffer(reply.outputs[0].content, np.float32).reshape(shape)
    return interpret(
        probabilities,
        served.spec,
        top_k=top_k,
        version=served.version,
        model=served.model,
        positions=positions,
        provenance=provenance,
    )
