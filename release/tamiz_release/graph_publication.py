"""Publication of classifier graphs of any tool: put into the standard form, and compared with what they were."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tamiz.arguments import check_choice, check_instance, check_path, check_text
from tamiz_server.config import ServingSettings
from tamiz_server.repository import Repository
from tamiz_train.run import Run

from .adaptation import Adaptation, examine
from .candidate import Candidate, graph_candidate
from .gate import GateImages, run_images
from .publication import PublishedVersion, publish_candidate
from .publication_options import DEFAULT_OPTIONS, PublicationOptions, check_publication
from .sources import ModelSource, open_source
from .sources.onnx_file import OnnxSource

if TYPE_CHECKING:
    from .precision.choice import Target


def publish_graph(
    path: Path,
    repository: Repository,
    model: str,
    *,
    adaptation: Adaptation | None = None,
    target: Target = "cpu",
    engine_cache: str | None = None,
    images: GateImages | None = None,
    options: PublicationOptions = DEFAULT_OPTIONS,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Add a classifier graph of any tool to a model repository as the next version, if it passes the gate.

    A graph that is not in the standard form is put into it, and must agree with the graph as it was. The first version
    goes live at once; a later one goes live when it is promoted.

    Args:
        path: path of the ONNX file.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model.
        adaptation: how the graph is put into the standard form. Default: what `examine` finds out.
        target: what will compute the graph: ``cpu``, or for INT8 and FP16 ``tensorrt`` on a GPU.
        engine_cache: an absolute folder on the server, in which it keeps the engines of TensorRT.
        images: the images on which the gate measures. Default: if the graph is in the folder of its run, held-out
            images of the run; otherwise none.
        options: how the version is gated, published and brought into service.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        UsageError: there is no such file, or TensorRT cannot compute the graph.
        ExportError: the file cannot be read, is no classifier of images, does not match its description, or cannot be
            adapted.
        SpecError: its spec cannot be read.
        GateError: the graph failed the gate, and the options do not force it.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    check_path("path", path, "the path of an ONNX file")
    check_instance("adaptation", adaptation, Adaptation, optional=True)
    check_choice("target", target, ("cpu", "tensorrt"))
    if engine_cache is not None:
        check_text("engine_cache", engine_cache, "an absolute folder on the server, or None")
    check_publication(repository, model, images=images, options=options, on_progress=on_progress)
    path = Path(path)
    adaptation = adaptation or examine(path)
    on_progress(f"{path}: {adaptation}")
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        candidate = graph_candidate(path, adaptation, Path(folder))
        if target == "tensorrt":
            candidate = _for_tensorrt(candidate, engine_cache)
        run = _run_of(candidate)
        if run is not None and images is None:
            images = run_images(run)
        with _open_reference(path, adaptation, run, repository) as reference:
            return publish_candidate(
                candidate,
                repository,
                model,
                reference=reference,
                images=images,
                options=options,
                on_progress=on_progress,
            )


def _for_tensorrt(candidate: Candidate, engine_cache: str | None) -> Candidate:
    # Imported here, because only this target needs it.
    from .precision.tensorrt import require_signed, tensorrt_accelerators

    largest = ServingSettings().max_batch_size
    accelerators = tensorrt_accelerators(candidate.precision, candidate.spec, largest, engine_cache)
    if candidate.precision == "int8":
        require_signed(candidate.graph)
    return replace(candidate, accelerators=accelerators)


@contextmanager
def _open_reference(
    path: Path, adaptation: Adaptation, run: Run | None, repository: Repository
) -> Iterator[ModelSource | None]:
    """What a graph must agree with: the run in whose folder it is, or itself as it was before it was adapted."""
    if run is not None:
        with open_source(str(run.path), repository.path) as reference:
            yield reference
    else:
        yield None if adaptation.complete else OnnxSource(path, adaptation=adaptation)


def _run_of(candidate: Candidate) -> Run | None:
    """The run in whose folder a graph is; None if there is none, or PyTorch is not installed."""
    run = Run(candidate.graph.parent)
    known = run.finished and find_spec("torch") is not None and run.spec == candidate.spec
    return run if known else None
