"""Former name of `onnx_export`; to be deleted when its importers are adapted."""

from .graph import read_spec
from .onnx_export import Exported, Parity, compare, export
from .publication import make_manifest as describe

__all__ = ["Exported", "Parity", "compare", "describe", "export", "read_spec"]
