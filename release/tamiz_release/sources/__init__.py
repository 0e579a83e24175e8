"""Where a model that is evaluated, compared or published comes from: a run, an ONNX file, a version, a server, or timm.

`open_source` opens a model by the one word that names it. What needs PyTorch is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .base import ModelSource
    from .opening import open_source

__all__ = ["ModelSource", "open_source"]

__getattr__, __dir__ = lazy_exports(__name__, {"ModelSource": "base", "open_source": "opening"}, __all__)
