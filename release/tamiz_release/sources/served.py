"""A model of a running server as a source."""

from __future__ import annotations

from tamiz import Client
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, evaluate_served

from .base import ModelSource


class ServedSource(ModelSource):
    """A model of a running server.

    Args:
        client: client of the model, inside its ``with`` block.

    Raises:
        ServerError: the server does not answer.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.spec = client.spec
        self.title = f"{client.model} version {client.live_version} at {client.url}"

    def evaluate(self, split: Split) -> Evaluation:
        """Send the images to the server."""
        return evaluate_served(self._client, split, self.spec)
