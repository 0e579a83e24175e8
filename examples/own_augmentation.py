"""Train the digits recipe with augmentation of your own, and show what it does to the images.

python -m tamiz_train.digits data/digits
python examples/own_augmentation.py
"""

from pathlib import Path
from typing import Any

import yaml

from tamiz_train import Run, load_recipe, train

# Albumentations transforms by name, with their arguments. They apply to training images only: pixels stay uint8, and
# normalisation has a key of its own.
AUGMENTATION = [
    {"Affine": {"rotate": [-15, 15], "scale": [0.9, 1.1], "p": 0.8}},
    {
        "OneOf": {
            "transforms": [{"GaussianBlur": {"blur_limit": [3, 3]}}, {"GaussNoise": {"std_range": [0.02, 0.08]}}],
            "p": 0.3,
        }
    },
]


def train_with(augmentation: list[dict[str, Any]], *overrides: str) -> Run:
    """Train the shipped recipe with another augmentation."""
    # The same as `--set` on the command line: a key and its value in YAML. All problems are in one RecipeError,
    # raised before training starts.
    written = yaml.safe_dump(augmentation, default_flow_style=True, width=10_000)
    recipe = load_recipe("digits", [f"augmentation={written}", *overrides])
    return train(recipe, on_progress=print)


if __name__ == "__main__":
    if not Path("data/digits").exists():
        raise SystemExit("no images: type python -m tamiz_train.digits data/digits")
    run = train_with(AUGMENTATION)
    print(run.path, run.metrics["test"])
