"""A version that results are replayed with: in this process, or on a running server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import MessageToDict

from tamiz import Client, Prediction
from tamiz.arguments import check_instance, check_text
from tamiz.errors import InvalidImageError, ModelNotFoundError, SpecError
from tamiz.files import sha256
from tamiz.prediction import interpret
from tamiz.preprocessing import ImageSource, Pixels, prepare
from tamiz.spec import INPUT_NAME, OUTPUT_NAME
from tamiz.transports import Headers, Tls, open_transport, parse_url
from tamiz_server.config import read_settings
from tamiz_server.repository import Repository
from tamiz_server.serving_session import computes_on_gpu, open_serving_session
from tamiz_server.version import GRAPH_FILE, SPEC_FILE, read_spec

from .replay import OpenVersion, Predict, RecordedVersion, VersionGoneError


def open_on_disk(repository: Repository) -> OpenVersion:
    """Opens the versions of a repository in this process, with the session that would serve them.

    The images are computed in batches of the size that a bulk job sends, because the last bits of a probability may
    depend on the size of the batch.

    Args:
        repository: the repository.
    """
    check_instance("repository", repository, Repository)

    @contextmanager
    def open_version(version: RecordedVersion, results: int) -> Iterator[Predict]:
        model, number = version.model, version.version
        # The names come from a file that anybody may have written: only what is known is opened.
        if model not in repository.models():
            raise VersionGoneError(f"no model {model} in {repository.path}")
        if number not in repository.version_numbers(model):
            raise VersionGoneError(f"no version {number} of {model} in {repository.path}")
        folder = repository.path / model / str(number)
        _require_hash("graph", version.onnx_sha256, sha256(folder / GRAPH_FILE))
        _require_hash("spec", version.spec_sha256, sha256(folder / SPEC_FILE))
        spec = read_spec(folder.parent, number)
        config = repository.config(model)
        settings = read_settings(config)
        document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
        gpu = 0 if computes_on_gpu(document) else None
        session = open_serving_session(folder / GRAPH_FILE, document, gpu=gpu)
        batch_size = max(1, min(int(settings["max_batch_size"]), results))
        part_size = int(settings["micro_batch_size"]) or batch_size

        def compute(images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
            # The last batch is filled up, so that all are computed alike.
            filled = np.stack([*images, *[images[-1]] * (batch_size - len(images))])
            parts = [filled[start : start + part_size] for start in range(0, batch_size, part_size)]
            outputs: list[npt.NDArray[np.float32]] = [
                session.run([OUTPUT_NAME], {INPUT_NAME: part})[0] for part in parts
            ]
            return np.concatenate(outputs)[: len(images)]

        def predict(images: Sequence[ImageSource], top_k: int) -> Iterator[Prediction | InvalidImageError]:
            for batch in _batches(images, batch_size):
                prepared = [_prepare(image, spec.preprocessing) for image in batch]
                readable = [image for image in prepared if not isinstance(image, InvalidImageError)]
                outputs = compute(readable) if readable else np.empty((0, len(spec.labels)), np.float32)
                answers = iter(interpret(outputs, spec, top_k=top_k, version=number, model=model))
                yield from (image if isinstance(image, InvalidImageError) else next(answers) for image in prepared)

        yield predict

    return open_version


def open_on_server(url: str, *, headers: Headers = None, tls: Tls | None = None) -> OpenVersion:
    """Opens the versions that a running server has loaded.

    Args:
        url: URL of the server, as `tamiz.Client` takes it.
        headers: sent with every request.
        tls: certificates.

    Raises:
        UsageError: an argument is wrong.
    """
    check_text("url", url, "the URL of a server")
    for each in parse_url(url, tls).urls:
        open_transport(each, headers=headers, tls=tls).close()

    @contextmanager
    def open_version(version: RecordedVersion, results: int) -> Iterator[Predict]:
        options: dict[str, Any] = {"headers": headers, "tls": tls, "timeout_s": 60.0, "provenance": True}
        client = Client(url, model=version.model, version=version.version, **options)
        try:
            try:
                client.refresh()
            except (ModelNotFoundError, SpecError) as exc:
                raise VersionGoneError(f"{url} does not serve {version}: {exc}") from exc

            def predict(images: Sequence[ImageSource], top_k: int) -> Iterator[Prediction | InvalidImageError]:
                for outcome in client.classify_many(images, top_k=top_k, on_error="return"):
                    if isinstance(outcome, Prediction) and outcome.provenance is not None:
                        _require_hash("graph", version.onnx_sha256, outcome.provenance.onnx_sha256)
                        _require_hash("spec", version.spec_sha256, outcome.provenance.spec_sha256)
                    yield outcome

            yield predict
        finally:
            client.close()

    return open_version


def _require_hash(what: str, recorded: str | None, found: str | None) -> None:
    if recorded is not None and found is not None and recorded != found:
        raise VersionGoneError(f"its {what} is another one: the SHA-256 is {found}, recorded is {recorded[:64]}")


def _prepare(image: ImageSource, preprocessing: Any) -> Pixels | InvalidImageError:
    try:
        return prepare(image, preprocessing)
    except InvalidImageError as exc:
        return exc


def _batches(images: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch
