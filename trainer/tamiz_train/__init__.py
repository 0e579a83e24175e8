"""Train image classifiers, evaluate them, explain them, and export them to ONNX.

The whole chain as a script::

    from tamiz_release import PublicationOptions, publish_run
    from tamiz_server import Repository
    from tamiz_train import load_recipe, train

    recipe = load_recipe("digits", ["train.epochs=5"])
    run = train(recipe, print)
    print(run.metrics["test"])
    publish_run(run, Repository("model_repository"), options=PublicationOptions(promote=True))

A `Recipe` describes what is trained on which images, and a `Run` is the folder that training writes. What needs
PyTorch is imported when it is first used: ``import tamiz_train``, `load_recipe` and `Run` do not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .classifier import Classifier
    from .data import Data, Split
    from .evaluation import Evaluation, Mistake
    from .explanation import Explanation, explain
    from .inference import evaluate, predict
    from .labelled_images import LabelledImages, read_labelled_folder
    from .metrics import CalibrationBin, ClassMetrics
    from .onnx_export import Exported, export
    from .parity import Parity
    from .recipe import Recipe, load_recipe
    from .run import Run
    from .run_data import load_run_data
    from .training import resume, train
    from .weights import load_classifier

__all__ = [
    "CalibrationBin",
    "ClassMetrics",
    "Classifier",
    "Data",
    "Evaluation",
    "Explanation",
    "Exported",
    "LabelledImages",
    "Mistake",
    "Parity",
    "Recipe",
    "Run",
    "Split",
    "evaluate",
    "explain",
    "export",
    "load_classifier",
    "load_recipe",
    "load_run_data",
    "predict",
    "read_labelled_folder",
    "resume",
    "train",
]

_MODULES = {
    "CalibrationBin": "metrics",
    "ClassMetrics": "metrics",
    "Classifier": "classifier",
    "Data": "data",
    "Evaluation": "evaluation",
    "Explanation": "explanation",
    "Exported": "onnx_export",
    "LabelledImages": "labelled_images",
    "Mistake": "evaluation",
    "Parity": "parity",
    "Recipe": "recipe",
    "Run": "run",
    "Split": "data",
    "evaluate": "inference",
    "explain": "explanation",
    "export": "onnx_export",
    "load_classifier": "weights",
    "load_recipe": "recipe",
    "load_run_data": "run_data",
    "predict": "inference",
    "read_labelled_folder": "labelled_images",
    "resume": "training",
    "train": "training",
}
"""Module of each public name. A module must not have the name of a function: importing it would hide the function."""

__getattr__, __dir__ = lazy_exports(__name__, _MODULES, __all__)
