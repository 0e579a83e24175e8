"""The images of a recipe: found on disk (`load_data`), loaded in batches (`loader`), and checked (`check`).

Nothing here but `loader` imports PyTorch; torchvision is imported only for a data set of torchvision.
"""

from .dataset import load_data
from .split import SPLITS, Data, Split, Task

__all__ = ["SPLITS", "Data", "Split", "Task", "load_data"]
