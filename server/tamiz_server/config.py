"""config.pbtxt: Triton's model configuration, always through its own protobuf."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]


class ServingSettings(BaseModel):
    """How Triton serves a model; written when the model is first published, the operator's to edit after that.

    Attributes:
        max_batch_size: most images in one request, and in one run of the model.
        max_queue_delay_us: how long a request waits for others to share its run, in microseconds.
        max_queue_size: requests that wait; further ones are refused at once.
        queue_timeout_ms: a request that waits longer is refused.
        instances: copies of the model, each with its own threads.
        threads: for one run of the model (``intra_op_thread_count``); 0 lets ONNX Runtime choose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: Count = 16
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 500
    max_queue_size: Count = 512
    queue_timeout_ms: Count = 5_000
    instances: Count = 1
    threads: Annotated[int, Field(ge=0)] = 0
