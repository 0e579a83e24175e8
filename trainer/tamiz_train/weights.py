"""The weights of a finished run."""

from __future__ import annotations

from safetensors.torch import load_file

from tamiz.arguments import check_instance
from tamiz.errors import RunError, one_line

from .classifier import Classifier
from .networks import build_classifier
from .run import Run


def load_classifier(run: Run) -> Classifier:
    """Load the trained classifier of a finished run, in evaluation mode and on the CPU.

    Raises:
        RunError: the weights are missing, damaged, or do not match the network.
    """
    check_instance("run", run, Run)
    classifier = build_classifier(run.recipe.model, run.spec, initial_weights=False)
    path = run.path / "model.safetensors"
    try:
        classifier.network.load_state_dict(load_file(path))
    except Exception as exc:
        # safetensors has its own exceptions; PyTorch raises RuntimeError if the tensors do not match.
        raise RunError(f"{path} cannot be loaded: {one_line(exc)}") from exc
    return classifier.eval()
