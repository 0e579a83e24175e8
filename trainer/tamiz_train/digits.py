"""The handwritten digits of scikit-learn as image folders.

1,797 images of 8×8 pixels and 17 grey levels (E. Alpaydin and C. Kaynak, UCI, 1998; CC BY 4.0). They are part of
scikit-learn, so that the demo and the tests need no download. ``python -m tamiz_train.digits FOLDER`` writes them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def write_digits(root: Path) -> None:
    """Write ``<root>/train/<digit>/*.png`` and ``<root>/test/<digit>/*.png``, with a fifth of each class for testing.

    Nothing is written if ``root`` exists; it is always complete, because it is renamed into place.
    """
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    # Scale the grey levels 0 to 16 to 0 to 255.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(images)), test_size=0.2, random_state=0, stratify=digits.target)
    staged = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        for split, indices in (("train", train), ("test", test)):
            for index in sorted(indices):
                folder = staged / split / str(digits.target[index])
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{index:04}.png"), images[index])
        staged.chmod(0o755)
        staged.rename(root)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]))
