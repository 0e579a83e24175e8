"""The performance monitor: figures of each version over a minute, an hour and since the start, in bounded memory.

Each worker counts into a file of its own in the shared folder, which it alone writes, so that nothing waits for a lock
between processes; the figures are the sums over the files of all workers. A worker that takes the place of another one
goes on counting in its file. With a single worker the same counts are in memory.
"""

from __future__ import annotations

import fcntl
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tamiz.errors import OutputError, os_reason

LOW_CONFIDENCE = 0.8
"""Predictions with a lower confidence count as uncertain."""

MAX_VERSIONS = 64
"""The number of versions whose figures a worker keeps; the one that was used least recently gives way."""

MAX_WORKERS = 256

_BUCKET = np.dtype(
    [
        ("stamp", "i8"),
        ("predictions", "i8"),
        ("confidence", "f8"),
        ("uncertain", "i8"),
        ("timed", "i8"),
        ("seconds", "f8"),
    ]
)
_SUMS = ("predictions", "confidence", "uncertain", "timed", "seconds")
_VERSION = np.dtype(
    [
        ("model", "S256"),
        ("version", "i8"),
        ("used", "f8"),
        ("by_second", _BUCKET, (60,)),
        ("by_minute", _BUCKET, (60,)),
        ("total", _BUCKET),
    ]
)
_COUNTS = np.dtype([("started", "f8"), ("versions", _VERSION, (MAX_VERSIONS,))])

WINDOWS = {"1m": 60.0, "1h": 3_600.0, "start": None}
"""Name and length in seconds of each window."""


class Monitor:
    """Counts predictions and the time that they take; threads may share it.

    Args:
        folder: folder that the workers share; None keeps the counts in memory.
        clock: a monotonic clock that all processes of the machine share; returns seconds.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._counts = np.zeros((), _COUNTS) if folder is None else self._open_own(folder)
        if not self._counts["started"]:
            self._counts["started"] = clock()

    def record_prediction(self, model: str, version: int, confidence: float) -> None:
        """Count a prediction.

        Args:
            model: name of the model.
            version: version that answered.
            confidence: probability of the predicted label, from 0 to 1.
        """
        with self._lock:
            for bucket in self._buckets(model, version):
                bucket["predictions"] += 1
                bucket["confidence"] += confidence
                bucket["uncertain"] += confidence < LOW_CONFIDENCE

    def record_inference(self, model: str, version: int, images: int, seconds: float) -> None:
        """Count an answered request to the server.

        Args:
            model: name of the model.
            version: version that answered.
            images: number of images in the request.
            seconds: from sending the request to its reply.
        """
        with self._lock:
            for bucket in self._buckets(model, version):
                bucket["timed"] += images
                bucket["seconds"] += images * seconds

    def snapshot(self) -> dict[str, Any]:
        """The figures of all workers.

        Returns:
            ``uptime_s``, and for each of `WINDOWS` its figures: ``predictions``, ``average_inference_time_s``,
            ``average_confidence``, ``low_confidence_share``, ``throughput`` (predictions a second), and the same of
            each version in ``versions``. A figure without predictions is None.
        """
        now = self._clock()
        workers = list(self._all_counts())
        uptime = max(now - min(float(counts["started"]) for counts in workers), 1e-3)
        return {
            "uptime_s": round(uptime, 3),
            **{
                name: _figures_of_window(workers, name, now, min(uptime, size or uptime))
                for name, size in WINDOWS.items()
            },
        }

    def close(self) -> None:
        """Leave the file to another worker; nothing may be counted afterwards."""
        if self._file is not None:
            self._file.close()

    def _buckets(self, model: str, version: int) -> Iterator[Any]:
        """The buckets that count what happens now to a version."""
        now = self._clock()
        row = self._row(model, version, now)
        for ring, stamp in ((row["by_second"], int(now)), (row["by_minute"], int(now // 60))):
            bucket = ring[stamp % 60]
            if bucket["stamp"] != stamp:
                for name in _SUMS:
                    bucket[name] = 0
                bucket["stamp"] = stamp
            yield bucket
        yield row["total"]

    def _row(self, model: str, version: int, now: float) -> Any:
        rows, name = self._counts["versions"], model.encode()
        found = np.flatnonzero((rows["model"] == name) & (rows["version"] == version))
        if len(found):
            row = rows[found[0]]
        else:
            row = rows[int(rows["used"].argmin())]
            fresh = np.zeros((), _VERSION)
            for field in _VERSION.names or ():
                row[field] = fresh[field]
            row["version"], row["model"] = version, name
        row["used"] = now
        return row

    def _open_own(self, folder: Path) -> npt.NDArray[Any]:
        """The first file that no other worker has open."""
        try:
            for number in range(MAX_WORKERS):
                file = (folder / f"monitor-{number}").open("ab")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                    continue
                file.truncate(_COUNTS.itemsize)
                # Kept open until `close`, which ends the lock.
                self._file = file
                return np.memmap(folder / f"monitor-{number}", _COUNTS, "r+", shape=())
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be written: {os_reason(exc)}") from exc
        raise OutputError(f"{folder}: {MAX_WORKERS} workers use it already")

    def _all_counts(self) -> Iterator[npt.NDArray[Any]]:
        if self._folder is None:
            yield self._counts
            return
        for path in sorted(self._folder.glob("monitor-*")):
            # A worker that starts just now has not written it yet.
            if path.stat().st_size == _COUNTS.itemsize:
                with path.open("rb") as file:
                    content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                counts = np.frombuffer(content, _COUNTS)[0]
                if counts["started"]:
                    yield counts


def _figures_of_window(workers: list[Any], name: str, now: float, seconds: float) -> dict[str, Any]:
    sums: dict[tuple[str, int], npt.NDArray[np.float64]] = {}
    for counts in workers:
        for row in counts["versions"]:
            if row["used"]:
                key = row["model"].decode(), int(row["version"])
                sums[key] = sums.get(key, np.zeros(len(_SUMS))) + _sums(row, name, now)
    active = {key: values for key, values in sorted(sums.items()) if values[0]}
    total = np.sum([*active.values(), np.zeros(len(_SUMS))], axis=0)
    versions = [
        {"model": model, "version": version, **_figures(values, seconds)} for (model, version), values in active.items()
    ]
    return {**_figures(total, seconds), "versions": versions}


def _sums(row: Any, window: str, now: float) -> npt.NDArray[np.float64]:
    if window == "start":
        buckets = row["total"].reshape(1)
    elif window == "1m":
        buckets = row["by_second"][row["by_second"]["stamp"] > int(now) - 60]
    else:
        buckets = row["by_minute"][row["by_minute"]["stamp"] > int(now // 60) - 60]
    return np.array([buckets[name].sum() for name in _SUMS], np.float64)


def _figures(values: npt.NDArray[np.float64], seconds: float) -> dict[str, Any]:
    predictions, confidence, uncertain, timed, spent = values.tolist()
    return {
        "predictions": int(predictions),
        "average_inference_time_s": spent / timed if timed else None,
        "average_confidence": confidence / predictions if predictions else None,
        "low_confidence_share": uncertain / predictions if predictions else None,
        "throughput": predictions / seconds,
    }
