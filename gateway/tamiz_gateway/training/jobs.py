"""Jobs: the training jobs of a gateway on disk, where its workers and its next start find them.

::

    <jobs_dir>/runner.lock                     locked as long as a job runs
    <jobs_dir>/train_20260131_120000/
        recipe.yaml     the recipe, generated from the request
        labels.csv      the manifest; its images are links in the folder images/
        job.json        the state; written last when a job is added, which is there whole or not at all
        cancel          exists once somebody has asked to cancel the job
        log.txt         what the training printed
        result.json     what it produced; written last
        runs/           the run

Only the process that holds the lock changes the state of a job (`tamiz_gateway.training.runner`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tamiz.errors import OutputError, os_reason
from tamiz.files import write_whole
from tamiz.json_text import to_json
from tamiz.locks import lock
from tamiz_train import load_recipe

from ..problems import Problem, overloaded
from ..settings import Settings
from .schemas import TrainingConfig, TrainingData, TrainRequest

LOCK, STATE, CANCEL, LOG, RESULT, RECIPE = "runner.lock", "job.json", "cancel", "log.txt", "result.json", "recipe.yaml"
QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "queued", "running", "completed", "failed", "cancelled"
ENDED = (COMPLETED, FAILED, CANCELLED)
LOG_LINES = 100
"""The last lines of a log that a reply has."""

JOB_ID = re.compile(r"train_\d{8}_\d{6}")
_EPOCH = re.compile(r"epoch (\d+)/(\d+): ")


class Jobs:
    """The training jobs of a gateway.

    Args:
        settings: the settings of the gateway.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.training.jobs_dir.absolute()

    def add(self, request: TrainRequest) -> str:
        """Add a job to the queue, and start the process that runs it unless that is busy.

        Returns:
            the id of the job.

        Raises:
            Problem: 403 if a path is not below the data folder, 422 if an image is missing, 429 if too many jobs wait.
            RecipeError: the recipe that the jobs begin from is wrong.
            OutputError: the folder of the jobs cannot be written.
        """
        images = self._find_images(request.training_data)
        limit = self._settings.training.max_jobs
        if sum(state["state"] not in ENDED for state in map(read_state, job_folders(self._folder))) >= limit:
            raise overloaded(f"{limit} training jobs run or wait already; try again when one has ended")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            folder = self._new_folder()
            try:
                self._write(folder, images, request)
            except BaseException:
                shutil.rmtree(folder)
                raise
        except OSError as exc:
            raise OutputError(f"{self._folder}: cannot be written: {os_reason(exc)}") from exc
        start_runner(self._folder)
        return folder.name

    def describe(self, job: str) -> dict[str, Any]:
        """A job, with the end of its log, and its result if it is completed; see `TrainReply`.

        Raises:
            Problem: 404 if there is no such job.
        """
        folder = self._existing(job)
        state = read_state(folder)
        if state["state"] == RUNNING and self.recover():
            state = read_state(folder)
        lines, progress = _read_log(folder)
        document = {"success": state["state"] not in (FAILED, CANCELLED), "training_id": job, "status": state["state"]}
        document |= {"created": state["created"], "error": state.get("error"), "log": lines, "progress": progress}
        if state["state"] == COMPLETED:
            document |= json.loads((folder / RESULT).read_bytes())
        return document

    def cancel(self, job: str) -> None:
        """Ask that a job ends; the process that runs the jobs follows within a second.

        Raises:
            Problem: 404 if there is no such job, 409 if it has ended.
        """
        folder = self._existing(job)
        state = read_state(folder)["state"]
        if state in ENDED:
            raise Problem(409, f"{job} is {state} already")
        (folder / CANCEL).touch()
        if state == QUEUED:
            start_runner(self._folder)

    def recover(self) -> bool:
        """Mark the jobs as failed whose process has died, and go on with those that wait.

        Returns:
            whether nothing runs; then no job is said to be running.
        """
        if not self._folder.is_dir():
            return True
        descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not lock(descriptor):
                return False
            fail_lost(self._folder)
            waiting = any(read_state(folder)["state"] == QUEUED for folder in job_folders(self._folder))
        finally:
            os.close(descriptor)
        if waiting:
            start_runner(self._folder)
        return True

    def _existing(self, job: str) -> Path:
        folder = self._folder / job
        if not JOB_ID.fullmatch(job) or not (folder / STATE).is_file():
            raise Problem(404, f"no training job {job[:100]!r}")
        return folder

    def _new_folder(self) -> Path:
        now = datetime.now(UTC)
        while True:
            folder = self._folder / now.strftime("train_%Y%m%d_%H%M%S")
            try:
                folder.mkdir()
            except FileExistsError:
                now += timedelta(seconds=1)
            else:
                return folder

    def _write(self, folder: Path, images: Sequence[Path], request: TrainRequest) -> None:
        """Write what the runner needs; the state is written last."""
        recipe = load_recipe(self._settings.training.recipe, self._overrides(request.training_config, folder))
        data = request.training_data
        (folder / "images").mkdir()
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["path", "label"])
        for number, (path, label) in enumerate(zip(images, data.labels, strict=True)):
            link = folder / "images" / f"{number}{path.suffix}"
            link.symlink_to(path)
            table.writerow([link.relative_to(folder), data.class_names[label]])
        write_whole(folder / "labels.csv", text.getvalue())
        write_whole(folder / RECIPE, recipe.with_absolute_paths().to_yaml())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        target = {"repository": str(self._settings.repository.absolute()), "model": self._settings.model}
        write_state(folder, {"state": QUEUED, "created": now, **target})

    def _find_images(self, data: TrainingData) -> list[Path]:
        root = self._settings.training.data_dir
        if root is None:
            raise Problem(403, "this gateway does not train: it has no data folder (TAMIZ_GATEWAY_DATA_DIR)")
        root = root.resolve()
        found = []
        for text in data.image_paths:
            try:
                # Links are resolved too, which could lead out of the folder.
                path = (root / text).resolve()
                inside, exists = path.is_relative_to(root), path.is_file()
            except (OSError, ValueError, RuntimeError):
                # The path has a NUL, is too long, or its links lead in a circle.
                inside, exists = True, False
            if not inside:
                raise Problem(403, f"{text[:200]!r} is not below the data folder of the gateway", error="AccessError")
            if not exists:
                raise Problem(422, f"{text[:200]!r}: no such image in the data folder of the gateway")
            found.append(path)
        return found

    def _overrides(self, config: TrainingConfig, folder: Path) -> list[str]:
        """The keys of the recipe that the request and the settings set; values are JSON, which is YAML too."""
        settings = self._settings.training
        precision = (
            None if settings.mixed_precision is None else ("16-mixed" if settings.mixed_precision else "32-true")
        )
        epochs = config.epochs or settings.epochs
        data = {"kind": "csv", "root": str(folder), "manifest": "labels.csv", "on_unreadable": "skip"}
        fraction = config.validation_split or settings.validation_fraction or 0.2
        keys: dict[str, Any] = {
            "name": self._settings.model,
            "runs_dir": str(folder / "runs"),
            "data": {**data, "validation_fraction": fraction},
            "train.phases": None if epochs is None else [],
            "train.epochs": epochs,
            "train.batch_size": config.batch_size or settings.batch_size,
            "train.optimizer.lr": config.learning_rate or settings.learning_rate,
            "train.checkpoint_every": settings.checkpoint_every,
            "train.device": settings.device,
            "train.num_threads": settings.num_threads,
            "train.precision": precision,
            "model.name": settings.architecture,
            "tracking.uri": settings.tracking_uri,
            "tracking.experiment": settings.experiment,
        }
        return [f"{key}={json.dumps(value)}" for key, value in keys.items() if value is not None]


def job_folders(folder: Path) -> Iterator[Path]:
    """The folders of all jobs, the oldest first."""
    for path in sorted(folder.glob("train_*")):
        if JOB_ID.fullmatch(path.name) and (path / STATE).is_file():
            yield path


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a job."""
    state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    return state


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of a job."""
    write_whole(folder / STATE, to_json(state, indent=2))


def fail_lost(folder: Path) -> None:
    """Mark the jobs as failed that are said to be running; the caller holds the lock, so none is."""
    for job in job_folders(folder):
        state = read_state(job)
        if state["state"] == RUNNING:
            error = "the process of the training has ended without a result; start the training again"
            write_state(job, {**state, "state": FAILED, "error": error})


def start_runner(folder: Path) -> None:
    """Start the process that runs the jobs. It outlives the gateway, and waits if another one runs a job."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAMIZ_")}
    # Those that have ended are asked for their status, or they would stay as zombies.
    _runners[:] = [runner for runner in _runners if runner.poll() is None]
    runner = subprocess.Popen(
        [sys.executable, "-P", "-m", "tamiz_gateway.training.runner", str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _runners.append(runner)


_runners: list[subprocess.Popen[bytes]] = []


def _read_log(folder: Path) -> tuple[list[str], dict[str, int] | None]:
    path = folder / LOG
    if not path.is_file():
        return [], None
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = deque((line.rstrip("\n") for line in file), maxlen=LOG_LINES)
    epochs = [found for line in lines if (found := _EPOCH.match(line))]
    progress = {"epoch": int(epochs[-1][1]), "epochs": int(epochs[-1][2])} if epochs else None
    return list(lines), progress
