"""A job: train by the recipe of the job, publish the run without promoting it, and write down what came of it.

``python -m tamiz_gateway.training.job JOB``, which the runner starts. What it prints is the log of the job.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tamiz.console import progress_line
from tamiz.errors import TamizError, one_line
from tamiz.files import write_whole
from tamiz.json_text import to_json
from tamiz_release import PublicationOptions, publish_run
from tamiz_server import Repository, Version
from tamiz_server.version import GRAPH_FILE
from tamiz_train import Run, load_recipe, train

from ..performance import read_classes
from .jobs import RECIPE, RESULT, read_state


def main(folder: Path) -> None:
    """Run the job of a folder."""
    began = time.monotonic()
    state = read_state(folder)
    run = train(load_recipe(folder / RECIPE), progress_line)
    repository = Repository(state["repository"])
    options = PublicationOptions(reason=f"training job {folder.name}")
    published = publish_run(run, repository, model=state["model"], options=options, on_progress=progress_line)
    versions = repository.versions(published.model)
    version = next(each for each in versions if each.version == published.version)
    path = repository.path / published.model / str(published.version) / GRAPH_FILE
    result = make_result(run, version, time.monotonic() - began)
    write_whole(folder / RESULT, to_json({**result, "model_path": str(path)}, indent=2))


def make_result(run: Run, version: Version, seconds: float) -> dict[str, Any]:
    """The result of a job.

    Args:
        run: the run.
        version: the version that was published from it.
        seconds: how long the job took.
    """
    measured = run.metrics["test"] or run.metrics["validation"]
    return {
        "model_id": f"{version.model}/{version.version}",
        "metrics": {
            "final_accuracy": measured["accuracy"],
            "best_epoch": run.metrics["best_epoch"],
            "training_time": round(seconds, 3),
            "num_classes": len(version.spec.labels),
            "num_samples": sum(run.metrics["images"].values()),
        },
        "classification_report": {
            label: figures.model_dump() for label, figures in read_classes(version.manifest["gate"]["classes"]).items()
        },
    }


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except TamizError as exc:
        print(f"error: {one_line(exc)}", flush=True)
        sys.exit(1)
