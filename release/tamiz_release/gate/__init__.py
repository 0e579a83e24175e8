"""The gate before a version is published: a candidate is measured against its reference and the live version."""

from .gate import require_passed, run_gate
from .images import GateImages, folder_images, run_images
from .limits import GateLimits, parse_limits
from .live import LiveModel, find_live
from .report import GateCheck, GateReport

__all__ = [
    "GateCheck",
    "GateImages",
    "GateLimits",
    "GateReport",
    "LiveModel",
    "find_live",
    "folder_images",
    "parse_limits",
    "require_passed",
    "run_gate",
    "run_images",
]
