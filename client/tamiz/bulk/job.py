"""One bulk job: the images of a command line through a client, and their results to memory or to an output file."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..client import Client
from ..console import note_line
from ..errors import InvalidImageError
from ..prediction import Prediction
from ..preprocessing import ImageSource
from .inputs import Input, count_inputs
from .journal import Journal
from .progress import JobProgress
from .results import Record, to_record, write_records


@dataclass(frozen=True)
class Job:
    """What a bulk job does.

    Attributes:
        model: name of the model.
        paths: the paths that stand for the images.
        top_k: number of labels for each image.
        in_flight: number of requests in flight; None for the client's adaptive limit.
        out: the output file; None to keep the results in memory.
        resume: whether to continue an interrupted job of ``out``.
        provenance: whether each result has the hashes of the version, the server and the time.
    """

    model: str
    paths: Sequence[str]
    top_k: int = 1
    in_flight: int | None = None
    out: Path | None = None
    resume: bool = False
    provenance: bool = False


@dataclass(frozen=True)
class JobResult:
    """What a finished job has done.

    Attributes:
        images: number of images, those of an interrupted run included.
        errors: number of unreadable images among them.
        images_per_s: throughput of this run.
        seconds: duration of this run.
        records: the results in the order of the images; empty when they are in an output file.
    """

    images: int
    errors: int
    images_per_s: float
    seconds: float
    records: Sequence[Record]


def run_job(job: Job, client: Client, inputs: Iterator[Input]) -> JobResult:
    """Classify the images of a job and write its output file.

    Args:
        job: what to do.
        client: an open client of the model.
        inputs: the images of the job, as `find_inputs` yields them.

    Raises:
        UsageError: the job cannot be resumed, or an unfinished one is in the way.
        OutputError: the output file or its journal cannot be written.
        ServerError: the servers did not answer within the client's timeout.
    """
    began = time.perf_counter()
    multilabel = client.spec.task == "multilabel"
    records: list[Record] = []
    with ExitStack() as stack:
        journal, save, done, errors = None, records.append, 0, 0
        if job.out is not None:
            journal = stack.enter_context(Journal(job.out, _identity(job, multilabel), resume=job.resume))
            stack.enter_context(_kept_results_reported(journal))
            save, done, errors = journal.append, journal.done, journal.errors
            inputs = journal.skip_done(inputs)
        progress = stack.enter_context(
            JobProgress(job.model, partial(count_inputs, job.paths), done=done, errors=errors)
        )
        for name, outcome in classify_inputs(
            client, inputs, top_k=job.top_k, in_flight=job.in_flight, provenance=job.provenance
        ):
            record = to_record(name, outcome, multilabel=multilabel, provenance=job.provenance)
            save(record)
            progress.count(error=record["error"] is not None)
        if journal is not None and job.out is not None:
            write_records(job.out, journal.records(), top_k=job.top_k, multilabel=multilabel, provenance=job.provenance)
            journal.remove()
    seconds = time.perf_counter() - began
    return JobResult(progress.images, progress.errors, (progress.images - done) / seconds, seconds, records)


def classify_inputs(
    client: Client, inputs: Iterator[Input], *, top_k: int, in_flight: int | None, provenance: bool = False
) -> Iterator[tuple[str, Prediction | InvalidImageError]]:
    """Classify inputs; yields the name and the outcome of each, in the order of the inputs.

    An input that is an error is yielded as it is, at its place.
    """
    # The client reads images ahead of the outcomes that it yields; these are the inputs in between.
    pending: deque[Input] = deque()

    def sources() -> Iterator[ImageSource]:
        for found in inputs:
            pending.append(found)
            if not isinstance(found.source, InvalidImageError):
                yield found.source

    def leading_errors() -> Iterator[tuple[str, InvalidImageError]]:
        while pending and isinstance(error := pending[0].source, InvalidImageError):
            yield pending.popleft().name, error

    for outcome in client.classify_many(
        sources(), top_k=top_k, on_error="return", in_flight=in_flight, provenance=provenance
    ):
        yield from leading_errors()
        yield pending.popleft().name, outcome
    yield from leading_errors()


def _identity(job: Job, multilabel: bool) -> dict[str, object]:
    """What determines the results of a job, as its journal records it."""
    identity = {"model": job.model, "inputs": list(job.paths), "top_k": job.top_k, "multilabel": multilabel}
    return identity | ({"provenance": True} if job.provenance else {})


@contextmanager
def _kept_results_reported(journal: Journal) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if journal.done:
            note_line(f"{journal.done:,} results are kept in {journal.path}; continue with --resume")
        raise
