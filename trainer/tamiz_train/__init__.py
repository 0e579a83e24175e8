"""Train image classifiers, evaluate them, explain them, and publish them for Triton.

The whole chain as a script::

    from tamiz_server import Repository
    from tamiz_train import load_recipe, publish_run, train

    recipe = load_recipe("digits", ["train.epochs=5"])
    run = train(recipe, print)
    print(run.metrics["test"])
    publish_run(run, Repository("model_repository"), promote=True)

A `Recipe` describes what is trained on which images, and a `Run` is the folder that training writes. What needs
PyTorch is imported when it is first used: ``import tamiz_train``, `load_recipe` and `Run` do not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .classifier import Classifier
    from .comparison import Comparison, Difference, LabelComparison, compare
    from .data import Data, Split
    from .evaluation import Evaluation, Mistake, evaluate, load_run_data
    from .explanation import Explanation, explain
    from .inference import predict
    from .labelled_images import LabelledImages, read_labelled_folder
    from .metrics import CalibrationBin, ClassMetrics
    from .model_source import ModelSource, open_source
    from .onnx_export import Exported, export
    from .parity import Parity
    from .publication import PublishedVersion, publish_graph, publish_run
    from .recipe import Recipe, load_recipe
    from .run import Run
    from .training import resume, train
    from .weights import load_classifier

__all__ = [
    "CalibrationBin",
    "ClassMetrics",
    "Classifier",
    "Comparison",
    "Data",
    "Difference",
    "Evaluation",
    "Explanation",
    "Exported",
    "LabelComparison",
    "LabelledImages",
    "Mistake",
    "ModelSource",
    "Parity",
    "PublishedVersion",
    "Recipe",
    "Run",
    "Split",
    "compare",
    "evaluate",
    "explain",
    "export",
    "load_classifier",
    "load_recipe",
    "load_run_data",
    "open_source",
    "predict",
    "publish_graph",
    "publish_run",
    "read_labelled_folder",
    "resume",
    "train",
]

_MODULES = {
    "CalibrationBin": "metrics",
    "ClassMetrics": "metrics",
    "Classifier": "classifier",
    "Comparison": "comparison",
    "Data": "data",
    "Difference": "comparison",
    "Evaluation": "evaluation",
    "Explanation": "explanation",
    "Exported": "onnx_export",
    "LabelComparison": "comparison",
    "LabelledImages": "labelled_images",
    "Mistake": "evaluation",
    "ModelSource": "model_source",
    "Parity": "parity",
    "PublishedVersion": "publication",
    "Recipe": "recipe",
    "Run": "run",
    "Split": "data",
    "compare": "comparison",
    "evaluate": "evaluation",
    "explain": "explanation",
    "export": "onnx_export",
    "load_classifier": "weights",
    "load_recipe": "recipe",
    "load_run_data": "evaluation",
    "open_source": "model_source",
    "predict": "inference",
    "publish_graph": "publication",
    "publish_run": "publication",
    "read_labelled_folder": "labelled_images",
    "resume": "training",
    "train": "training",
}
"""Module of each public name. A module must not have the name of a function: importing it would hide the function."""

__getattr__, __dir__ = lazy_exports(__name__, _MODULES, __all__)
