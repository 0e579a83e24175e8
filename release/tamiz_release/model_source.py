"""Where a model that is evaluated comes from: a run, an ONNX file, a published version, or a running server.

On the command line it is one word: the folder of a run (``runs/digits``), a file (``model.onnx``), a model of the
repository with or without a version (``digits/3``; without one, the live version), or a model of a running server
(``grpc://localhost:8001/digits``). A folder without runs, such as one of images, does not hide the model of its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tamiz import Client
from tamiz.errors import UsageError, suggest
from tamiz.spec import ModelSpec
from tamiz.transports import Headers, Tls
from tamiz_server.repository import Repository
from tamiz_server.version import GRAPH_FILE
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, evaluate, evaluate_function, evaluate_served
from tamiz_train.run import Run, holds_runs, known_runs
from tamiz_train.weights import load_classifier

from .adapted_graph import AdaptedGraph


class ModelSource(ABC):
    """A model that can be evaluated.

    Attributes:
        title: what the model is, for people.
        spec: labels, preprocessing and thresholds of the model.
        run: the run, if the model is one.
    """

    title: str
    spec: ModelSpec
    run: Run | None = None

    @abstractmethod
    def evaluate(self, split: Split) -> Evaluation:
        """Evaluate the model on a split that has its labels."""

    @property
    def fitted_images(self) -> frozenset[bytes] | None:
        """Content hashes of the images that the model was fitted to; None if they are unknown."""
        return None if self.run is None else self.run.fitted_images


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
    if "://" in name:
        url, _, model = name.rpartition("/")
        if not model or url.endswith(":/"):
            raise UsageError(f"{name}: name the model too, as in grpc://localhost:8001/digits")
        with Client(url, model=model, tls=tls, headers=headers) as client:
            yield _ServedSource(client)
    elif name.endswith(".onnx"):
        yield _open_graph(Path(name))
    elif holds_runs(Path(name)) or (Path(name).is_dir() and name.partition("/")[0] not in _models(repository)):
        yield _RunSource(Run.find(name))
    else:
        yield _open_published(name, Repository(repository))


def _open_graph(path: Path) -> ModelSource:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return _GraphSource(str(path), path)


def _models(repository: Path) -> list[str]:
    return Repository(repository).models() if repository.is_dir() else []


def _open_published(name: str, repository: Repository) -> ModelSource:
    model, slash, number = name.partition("/")
    known = _models(repository.path)
    if model not in known or (slash and not number.isdecimal()):
        names = [*known, *known_runs(Path(name))]
        hint = suggest(model, names) if model not in known else "; a version is a number, as in digits/3"
        raise UsageError(
            f"no model {name}: it is neither the folder of a run, nor an .onnx file, nor a model in {repository.path}"
            f"{hint}"
        )
    version = int(number) if number else repository.live_version(model).version
    if version not in repository.version_numbers(model):
        numbers = ", ".join(map(str, repository.version_numbers(model)))
        raise UsageError(f"no version {version} of {model} in {repository.path}; there are: {numbers}")
    return _GraphSource(f"{model} version {version}", repository.path / model / str(version) / GRAPH_FILE)


class _RunSource(ModelSource):
    def __init__(self, run: Run) -> None:
        self.title = f"{run.recipe.name}, {run.path.name}"
        self.spec = run.spec
        self.run = run
        self._classifier = load_classifier(run)

    def evaluate(self, split: Split) -> Evaluation:
        return evaluate(self._classifier, split, self.spec)


class _GraphSource(ModelSource):
    def __init__(self, title: str, path: Path) -> None:
        self._graph = AdaptedGraph(path)
        self.spec = self._graph.spec
        applied = self._graph.activation
        self.title = title if applied == "none" else f"{title} (its outputs are logits; {applied} is applied)"

    def evaluate(self, split: Split) -> Evaluation:
        return evaluate_function(self._graph.probabilities, split, self.spec)


class _ServedSource(ModelSource):
    def __init__(self, client: Client) -> None:
        self._client = client
        self.spec = client.spec
        self.title = f"{client.model} version {client.live_version} at {client.url}"

    def evaluate(self, split: Split) -> Evaluation:
        return evaluate_served(self._client, split, self.spec)
