"""From a trained run, or an ONNX graph of any tool, to a live version of a model in the repository.

`export_precision` exports a run in FP32, FP16 or INT8. `publish_run`, `publish_graph` and `publish_timm` add a version,
`publish_registered` one from MLflow's registry, and `publish_candidate` one of any origin; `examine` finds out what a
graph of another tool needs to become a version, and `synchronise` makes MLflow's registry agree with the repository.
`open_source` opens a model wherever it is, and `compare` says which of two models is better on the same images. `watch`
rolls a canary back that is worse than the live version. `plan_release` and `carry_out` do all of it in one go.
`replay_results` computes the results of a bulk job again. What needs PyTorch is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .adaptation import Adaptation, Description, InputSettings, examine, read_description, write_adapted
    from .candidate import Candidate, graph_candidate, run_candidate, timm_candidate
    from .comparison import Comparison, Difference, LabelComparison, compare
    from .gate import GateCheck, GateImages, GateLimits, GateReport, folder_images, run_gate, run_images
    from .graph_publication import publish_graph
    from .precision.export import export_precision
    from .publication import PublishedVersion, publish_candidate
    from .publication_options import PublicationOptions
    from .registered_publication import publish_registered
    from .registry import synchronise
    from .releasing import CanarySettings, ReleasePlan, ReleaseReport, ReleaseStep, carry_out, plan_release
    from .replay import RecordedVersion, Replay, ReplayDifference, replay_results
    from .replayed_version import open_on_disk, open_on_server
    from .rollout.judge import WatchFinding, WatchLimits
    from .rollout.watch import WatchReport, watch
    from .run_publication import publish_run
    from .sources import ModelSource, open_source
    from .sources.timm_model import TimmSource
    from .timm_publication import publish_timm

__all__ = [
    "Adaptation",
    "CanarySettings",
    "Candidate",
    "Comparison",
    "Description",
    "Difference",
    "GateCheck",
    "GateImages",
    "GateLimits",
    "GateReport",
    "InputSettings",
    "LabelComparison",
    "ModelSource",
    "PublicationOptions",
    "PublishedVersion",
    "RecordedVersion",
    "ReleasePlan",
    "ReleaseReport",
    "ReleaseStep",
    "Replay",
    "ReplayDifference",
    "TimmSource",
    "WatchFinding",
    "WatchLimits",
    "WatchReport",
    "carry_out",
    "compare",
    "examine",
    "export_precision",
    "folder_images",
    "graph_candidate",
    "open_on_disk",
    "open_on_server",
    "open_source",
    "plan_release",
    "publish_candidate",
    "publish_graph",
    "publish_registered",
    "publish_run",
    "publish_timm",
    "read_description",
    "replay_results",
    "run_candidate",
    "run_gate",
    "run_images",
    "synchronise",
    "timm_candidate",
    "watch",
    "write_adapted",
]

_MODULES = {
    "Adaptation": "adaptation",
    "CanarySettings": "releasing",
    "Candidate": "candidate",
    "Comparison": "comparison",
    "Description": "adaptation",
    "Difference": "comparison",
    "GateCheck": "gate",
    "GateImages": "gate",
    "GateLimits": "gate",
    "GateReport": "gate",
    "InputSettings": "adaptation",
    "LabelComparison": "comparison",
    "ModelSource": "sources",
    "PublicationOptions": "publication_options",
    "PublishedVersion": "publication",
    "RecordedVersion": "replay",
    "ReleasePlan": "releasing",
    "ReleaseReport": "releasing",
    "ReleaseStep": "releasing",
    "Replay": "replay",
    "ReplayDifference": "replay",
    "TimmSource": "sources.timm_model",
    "WatchFinding": "rollout.judge",
    "WatchLimits": "rollout.judge",
    "WatchReport": "rollout.watch",
    "carry_out": "releasing",
    "compare": "comparison",
    "examine": "adaptation",
    "export_precision": "precision.export",
    "folder_images": "gate",
    "graph_candidate": "candidate",
    "open_on_disk": "replayed_version",
    "open_on_server": "replayed_version",
    "open_source": "sources",
    "plan_release": "releasing",
    "publish_candidate": "publication",
    "publish_graph": "graph_publication",
    "publish_registered": "registered_publication",
    "publish_run": "run_publication",
    "publish_timm": "timm_publication",
    "read_description": "adaptation",
    "replay_results": "replay",
    "run_candidate": "candidate",
    "run_gate": "gate",
    "run_images": "gate",
    "synchronise": "registry",
    "timm_candidate": "candidate",
    "watch": "rollout.watch",
    "write_adapted": "adaptation",
}
"""Module of each public name. A module must not have the name of a function: importing it would hide the function."""

__getattr__, __dir__ = lazy_exports(__name__, _MODULES, __all__)
