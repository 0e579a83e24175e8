"""From a trained run, or an ONNX graph of any tool, to a live version of a model in the repository.

`export_precision` exports a run in FP32, FP16 or INT8. `publish_run` and `publish_graph` add a version, and
`publish_candidate` one of any origin. `open_source` opens a model wherever it is, and `compare` says which of two
models is better on the same images. `watch` rolls a canary back that is worse than the live version. `plan_release` and
`carry_out` do all of it in one go. What needs PyTorch is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .candidate import Candidate, graph_candidate, run_candidate
    from .comparison import Comparison, Difference, LabelComparison, compare
    from .gate import GateCheck, GateImages, GateLimits, GateReport, folder_images, run_gate, run_images
    from .precision.export import export_precision
    from .publication import PublishedVersion, publish_candidate, publish_graph, publish_run
    from .releasing import CanarySettings, ReleasePlan, ReleaseReport, ReleaseStep, carry_out, plan_release
    from .rollout.judge import WatchFinding, WatchLimits
    from .rollout.watch import WatchReport, watch
    from .sources import ModelSource, open_source

__all__ = [
    "CanarySettings",
    "Candidate",
    "Comparison",
    "Difference",
    "GateCheck",
    "GateImages",
    "GateLimits",
    "GateReport",
    "LabelComparison",
    "ModelSource",
    "PublishedVersion",
    "ReleasePlan",
    "ReleaseReport",
    "ReleaseStep",
    "WatchFinding",
    "WatchLimits",
    "WatchReport",
    "carry_out",
    "compare",
    "export_precision",
    "folder_images",
    "graph_candidate",
    "open_source",
    "plan_release",
    "publish_candidate",
    "publish_graph",
    "publish_run",
    "run_candidate",
    "run_gate",
    "run_images",
    "watch",
]

_MODULES = {
    "CanarySettings": "releasing",
    "Candidate": "candidate",
    "Comparison": "comparison",
    "Difference": "comparison",
    "GateCheck": "gate",
    "GateImages": "gate",
    "GateLimits": "gate",
    "GateReport": "gate",
    "LabelComparison": "comparison",
    "ModelSource": "sources",
    "PublishedVersion": "publication",
    "ReleasePlan": "releasing",
    "ReleaseReport": "releasing",
    "ReleaseStep": "releasing",
    "WatchFinding": "rollout.judge",
    "WatchLimits": "rollout.judge",
    "WatchReport": "rollout.watch",
    "carry_out": "releasing",
    "compare": "comparison",
    "export_precision": "precision.export",
    "folder_images": "gate",
    "graph_candidate": "candidate",
    "open_source": "sources",
    "plan_release": "releasing",
    "publish_candidate": "publication",
    "publish_graph": "publication",
    "publish_run": "publication",
    "run_candidate": "candidate",
    "run_gate": "gate",
    "run_images": "gate",
    "watch": "rollout.watch",
}
"""Module of each public name. A module must not have the name of a function: importing it would hide the function."""

__getattr__, __dir__ = lazy_exports(__name__, _MODULES, __all__)
