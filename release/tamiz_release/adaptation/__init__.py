"""Any classifier graph, made a standard one: `examine` finds out what it needs, and `write_adapted` wraps it.

A graph of another tool comes with a `Description`: its labels, and what it does not say about itself. It is read and
run as something that may be hostile: its claims are checked before memory is used for them, and its first run is in a
process with limits. Nothing here needs PyTorch.
"""

from .description import Description, InputSettings, read_description
from .examination import examine
from .foreign_graph import ForeignGraph, open_foreign
from .wrapping import Adaptation, write_adapted

__all__ = [
    "Adaptation",
    "Description",
    "ForeignGraph",
    "InputSettings",
    "examine",
    "open_foreign",
    "read_description",
    "write_adapted",
]
