"""Placeholder until the weights module is merged: take the other side of a merge conflict."""

from __future__ import annotations

from safetensors.torch import load_file

from tamiz.errors import RunError

from .classifier import Classifier
from .networks import build_classifier
from .run import Run


def load_classifier(run: Run) -> Classifier:
    """The trained network of a run, in evaluation mode.

    Raises:
        RunError: the weights are missing or do not fit.
    """
    classifier = build_classifier(run.recipe.model, run.spec, initial_weights=False)
    try:
        classifier.network.load_state_dict(load_file(run.path / "model.safetensors"))
    except Exception as exc:
        raise RunError(f"{run.path / 'model.safetensors'} cannot be loaded: {exc}") from exc
    return classifier.eval()
