"""The data of a run: what is recorded of the images that it is trained on, and how they are found again later."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from pathlib import Path

import numpy as np

from tamiz.arguments import check_choice, check_instance, wrong
from tamiz.errors import RecipeError, RunError, list_names
from tamiz.files import staged, write_whole
from tamiz.json_text import to_json

from .data import Data, load_data
from .data.content import HASH_BYTES, content_fingerprint
from .data.split import SPLITS
from .image_hashes import HASHES_FILE
from .run import Run


def record_data(run: Run, data: Data, root: Path) -> None:
    """Save what data the run is trained on.

    The labels and a fingerprint of each split show later that images have changed; the content hashes show which
    images of other data the run was trained on, and whether another run was measured on the same images.

    Args:
        run: the run.
        data: the images that the run is trained on.
        root: the folder of the images; fingerprints contain the paths below it.

    Raises:
        OutputError: a file cannot be written.
    """
    # Imported here, because it comes with training, and runs are compared without it.
    from safetensors.numpy import save_file

    arrays = {
        split.name: np.frombuffer(b"".join(split.hashes), np.uint8).reshape(-1, HASH_BYTES) for split in data.splits
    }
    with staged(run.path / HASHES_FILE) as part:
        save_file(arrays, part)
    document = {
        "labels": data.labels,
        "fingerprints": {split.name: split.fingerprint(root) for split in data.splits},
        "contents": {split.name: content_fingerprint(split.hashes, split.labels(data.labels)) for split in data.splits},
    }
    write_whole(run.path / "data.json", to_json(document, indent=2))


def load_run_data(run: Run, splits: Collection[str] = SPLITS) -> Data:
    """Load the images of a finished run.

    Args:
        run: the run.
        splits: names of the splits that will be evaluated.

    Raises:
        RunError: the images cannot be found, or their labels differ from those of the run; the only split has no
            images; or images have changed, and one of the splits now has images of another split of the run.
    """
    check_instance("run", run, Run)
    if isinstance(splits, str | bytes) or not isinstance(splits, Sequence | Set):
        raise wrong("splits", splits, "a list of names of splits")
    for name in splits:
        check_choice("splits", name, SPLITS)
    try:
        data = load_data(run.recipe.data, run.recipe.train.seed)
    except RecipeError as exc:
        raise RunError(
            f"{run.path}: the images of the run cannot be found: {exc}; restore them, or give images with their labels "
            "by --images FOLDER"
        ) from exc
    for name in sorted(changed_splits(run, data) & data.drawn & set(splits)):
        others = run.recorded_images({split.name for split in data.splits} - {name})
        moved = others is None or len(others.intersection(data.split(name).hashes))
        if moved:
            raise RunError(
                f"{run.recipe.data.root} has other images than the run was trained on, and {name} now has images of "
                "another split of the run; restore the images, or train again"
            )
    if len(splits) == 1 and not any(len(data.split(name)) for name in splits):
        raise RunError(
            f"{run.path}: the data of the run has no {' '.join(splits)} images; evaluate another split, or give images "
            "with their labels by --images FOLDER"
        )
    return data


def changed_splits(run: Run, data: Data) -> set[str]:
    """Compare images with those that the run recorded.

    Returns:
        the names of the splits whose images or targets differ; splits that were not recorded are left out.

    Raises:
        RunError: the labels differ.
    """
    root = run.recipe.data.root
    if (run.path / "data.json").is_file():
        recorded = run.recorded_data
    elif run.finished:
        # A run from before fingerprints were recorded.
        recorded = {"labels": list(run.spec.labels), "fingerprints": {}}
    else:
        return set()
    if list(data.labels) != recorded["labels"]:
        raise RunError(
            f"{root} now has the labels {list_names(data.labels)}; the run was trained on "
            f"{list_names(recorded['labels'])}"
        )
    fingerprints = recorded["fingerprints"]
    splits = [split for split in data.splits if split.name in fingerprints]
    return {split.name for split in splits if split.fingerprint(root) != fingerprints[split.name]}
