from __future__ import annotations

import sys
from pathlib import Path

# The extension of the documentation, whose functions the tests call without Sphinx.
sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "_ext"))
