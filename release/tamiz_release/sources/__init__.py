"""Where a model that is evaluated, compared or published comes from: a run, an ONNX file, a version, or a server.

`open_source` opens a model by the one word that names it. What needs PyTorch is imported when it is first used.
"""

from .base import ModelSource
from .opening import open_source

__all__ = ["ModelSource", "open_source"]
