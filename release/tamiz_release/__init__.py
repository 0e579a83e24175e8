"""From a trained run, or an ONNX graph of any tool, to a live version of a model in the repository.

`publish_run` and `publish_graph` add a version, `open_source` opens a model wherever it is, and `compare` says which of
two models is better on the same images. What needs PyTorch is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .comparison import Comparison, Difference, LabelComparison, compare
    from .publication import PublishedVersion, publish_graph, publish_run
    from .sources import ModelSource, open_source

__all__ = [
    "Comparison",
    "Difference",
    "LabelComparison",
    "ModelSource",
    "PublishedVersion",
    "compare",
    "open_source",
    "publish_graph",
    "publish_run",
]

_MODULES = {
    "Comparison": "comparison",
    "Difference": "comparison",
    "LabelComparison": "comparison",
    "ModelSource": "sources",
    "PublishedVersion": "publication",
    "compare": "comparison",
    "open_source": "sources",
    "publish_graph": "publication",
    "publish_run": "publication",
}
"""Module of each public name. A module must not have the name of a function: importing it would hide the function."""

__getattr__, __dir__ = lazy_exports(__name__, _MODULES, __all__)
