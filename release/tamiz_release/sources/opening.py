"""Opening a model by its name.

On the command line a model is one word: the folder of a run (``runs/digits``), a file (``model.onnx``), a model of the
repository with or without a version (``digits/3``; without one, the live version), a model of a running server
(``grpc://localhost:8001/digits``), or a pretrained model of timm (``timm:resnet50``). A folder without runs, such as
one of images, does not hide the model of its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tamiz import Client
from tamiz.arguments import check_path, check_text, show_path
from tamiz.errors import UsageError, suggest
from tamiz.extras import extra_required
from tamiz.transports import Headers, Tls
from tamiz_server.repository import Repository
from tamiz_server.version import GRAPH_FILE
from tamiz_train.run import Run, holds_runs, known_runs

from .base import TIMM, ModelSource
from .onnx_file import OnnxSource
from .served import ServedSource


@contextmanager
def open_source(
    name: str, repository: Path, *, tls: Tls | None = None, headers: Headers = None
) -> Iterator[ModelSource]:
    """Open a model by its name.

    Args:
        name: the model, as the module describes it.
        repository: folder of the model repository.
        tls: certificates for the connection to a running server.
        headers: sent with every request to a running server.

    Raises:
        UsageError: there is no such model.
        RunError: the run is not finished, or its weights cannot be loaded.
        ExportError: the ONNX file cannot be used.
        SpecError: the spec of the model cannot be read.
        RepositoryError: the version is damaged.
        ServerError: the server does not answer.
    """
    check_text("name", name, "the name of a model, of a file or of a folder")
    check_path("repository", repository, "the path of a model repository")
    repository = Path(repository)
    if "://" in name:
        url, _, model = name.rpartition("/")
        if not model or url.endswith(":/"):
            raise UsageError(f"{name}: name the model too, as in grpc://localhost:8001/digits")
        with Client(url, model=model, tls=tls, headers=headers) as client:
            yield ServedSource(client)
        return
    # It may be a path.
    check_path("name", name, "the name of a model, of a file or of a folder")
    if name.endswith(".onnx"):
        yield OnnxSource(Path(name))
    elif holds_runs(Path(name)) or (Path(name).is_dir() and name.partition("/")[0] not in _models(repository)):
        run = Run.find(name)
        # Imported here, because it needs PyTorch.
        with extra_required("train,cpu"):
            from .run import RunSource
        yield RunSource(run)
    elif name.startswith(TIMM):
        with extra_required("train,cpu"):
            from .timm_model import TimmSource
        yield TimmSource(name.removeprefix(TIMM))
    else:
        yield _open_published(name, Repository(repository))


def _models(repository: Path) -> list[str]:
    return Repository(repository).models() if repository.is_dir() else []


def _open_published(name: str, repository: Repository) -> ModelSource:
    model, slash, number = name.partition("/")
    known = _models(repository.path)
    if model not in known or (slash and not number.isdecimal()):
        names = [*known, *known_runs(Path(name))]
        hint = suggest(model, names) if model not in known else "; a version is a number, as in digits/3"
        # Other tools write versions so.
        versioned = re.fullmatch(r"(.+)[@:](\d+)", name)
        if versioned and versioned[1] in known:
            hint = f"; a version is written as in {versioned[1]}/{versioned[2]}"
        raise UsageError(
            f"no model {name}: it is neither the folder of a run, nor an .onnx file, nor a model in "
            f"{show_path(repository.path)}"
            f"{hint}"
        )
    version = int(number) if number else repository.live_version(model).version
    if version not in repository.version_numbers(model):
        numbers = ", ".join(map(str, repository.version_numbers(model)))
        raise UsageError(f"no version {version} of {model} in {repository.path}; there are: {numbers}")
    path = repository.path / model / str(version) / GRAPH_FILE
    return OnnxSource(path, f"{model} version {version}", trusted=True)
