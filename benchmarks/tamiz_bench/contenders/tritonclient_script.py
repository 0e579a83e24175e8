"""A client as a user writes it from tritonclient's documentation, for comparison with `tamiz.Client`.

It decodes with Pillow and sends normalised float32, one image per request, to the model of `float32_model`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tritonclient.grpc as grpcclient
from PIL import Image

from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec


class TritonclientScript:
    """Classifies one image file per request; threads may share it, as tritonclient documents for its own client."""

    def __init__(self, url: str, model: str, spec: ModelSpec) -> None:
        self.client = grpcclient.InferenceServerClient(url.removeprefix("grpc://"))
        self.model = model
        self.labels = spec.labels
        self.size = spec.preprocessing.width, spec.preprocessing.height
        self.mode = spec.preprocessing.colour
        self.mean = np.array(spec.normalisation.mean, np.float32)
        self.std = np.array(spec.normalisation.std, np.float32)

    def classify(self, path: Path) -> str:
        """The label of an image."""
        image = Image.open(path).convert(self.mode).resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32).reshape(self.size[1], self.size[0], -1) / 255
        batch = ((pixels - self.mean) / self.std).transpose(2, 0, 1)[np.newaxis]
        infer_input = grpcclient.InferInput(INPUT_NAME, list(batch.shape), "FP32")
        infer_input.set_data_from_numpy(batch)
        result = self.client.infer(
            self.model, inputs=[infer_input], outputs=[grpcclient.InferRequestedOutput(OUTPUT_NAME)]
        )
        return self.labels[int(result.as_numpy(OUTPUT_NAME)[0].argmax())]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
