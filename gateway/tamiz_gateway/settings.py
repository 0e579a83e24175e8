"""Settings of a gateway: from the command line, otherwise from environment variables, otherwise their defaults."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator

from tamiz.arguments import check_type
from tamiz.document import Document, describe
from tamiz.errors import UsageError, list_names
from tamiz.options import DEFAULT_REPOSITORY
from tamiz.transports import DEFAULT_URL, parse_url
from tamiz_server import Repository

from .training_settings import TrainingSettings

Seconds = Annotated[float, Field(gt=0, le=3_600)]
Key = Annotated[SecretStr, Field(min_length=8)]


class Settings(Document):
    """Settings of a gateway.

    Attributes:
        model: the model that ``/classify`` uses and whose versions are listed and promoted.
        url: URL of the servers, as `tamiz.Client` takes it.
        repository: folder of the model repository, which the servers serve.
        runs_dir: folder of the runs, in which explanations find the networks of versions.
        host: address to listen on. Beyond the loopback interface, ``classify_key`` is required.
        port: port to listen on; 0 chooses a free one.
        workers: number of worker processes.
        triton_key: key of the server, for promotions.
        classify_key: key that every request must carry; None asks for none.
        admin_key: key for promotions and training. None asks for none, but forbids them if there is a ``classify_key``.
        timeout_s: longest time for a request in seconds, which the header ``X-Request-Timeout`` may shorten.
        body_timeout_s: longest time in seconds in which the body of a request must arrive.
        max_body_bytes: largest body of a request, in bytes.
        max_buffered_bytes: the most bytes of bodies that one worker holds at a time.
        max_pixels: largest image, in pixels.
        max_files: the most images in one request.
        max_requests: the most requests that one worker handles at a time; more are refused with status 429.
        training: settings of the training jobs.
        state: folder of what several workers share; None for a single worker, which keeps it in memory.
    """

    model: Annotated[str, Field(min_length=1, max_length=255)]
    url: str = DEFAULT_URL
    repository: Path = DEFAULT_REPOSITORY
    runs_dir: Path = Path("runs")
    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8003
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    triton_key: SecretStr | None = None
    classify_key: Key | None = None
    admin_key: Key | None = None
    timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    max_body_bytes: Annotated[int, Field(ge=1_000, le=2**31)] = 32 * 1024 * 1024
    max_buffered_bytes: Annotated[int, Field(ge=1_000)] = 512 * 1024 * 1024
    max_pixels: Annotated[int, Field(ge=1, le=64_000_000)] = 40_000_000
    max_files: Annotated[int, Field(ge=1, le=10_000)] = 256
    max_requests: Annotated[int, Field(ge=1, le=10_000)] = 128
    training: TrainingSettings = TrainingSettings()
    state: Path | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            parse_url(self.url, None)
        except UsageError as exc:
            raise ValueError(str(exc)) from exc
        if not is_loopback(self.host) and self.classify_key is None:
            raise ValueError(
                f"host: {self.host!r} can be reached from other machines, so callers need a key; set "
                "TAMIZ_GATEWAY_CLASSIFY_KEY, or listen on 127.0.0.1"
            )
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError("max_buffered_bytes: must be at least max_body_bytes")
        return self


VARIABLES = {
    "model": "TAMIZ_GATEWAY_MODEL",
    "url": "TAMIZ_GATEWAY_URL",
    "repository": "MODEL_SAVE_DIR",
    "runs_dir": "TAMIZ_GATEWAY_RUNS_DIR",
    "host": "ML_CLASSIFIER_HOST",
    "port": "ML_CLASSIFIER_PORT",
    "workers": "ML_CLASSIFIER_WORKERS",
    "triton_key": "TAMIZ_KEY",
    "classify_key": "TAMIZ_GATEWAY_CLASSIFY_KEY",
    "admin_key": "TAMIZ_GATEWAY_ADMIN_KEY",
    "timeout_s": "TAMIZ_GATEWAY_TIMEOUT_S",
    "body_timeout_s": "TAMIZ_GATEWAY_BODY_TIMEOUT_S",
    "max_body_bytes": "TAMIZ_GATEWAY_MAX_BODY_BYTES",
    "max_buffered_bytes": "TAMIZ_GATEWAY_MAX_BUFFERED_BYTES",
    "max_pixels": "TAMIZ_GATEWAY_MAX_PIXELS",
    "max_files": "TAMIZ_GATEWAY_MAX_FILES",
    "max_requests": "TAMIZ_GATEWAY_MAX_REQUESTS",
    "training.data_dir": "TAMIZ_GATEWAY_DATA_DIR",
    "training.jobs_dir": "TAMIZ_GATEWAY_JOBS_DIR",
    "training.recipe": "TAMIZ_GATEWAY_RECIPE",
    "training.max_jobs": "TAMIZ_GATEWAY_MAX_JOBS",
    "training.architecture": "DEFAULT_MODEL_ARCHITECTURE",
    "training.epochs": "DEFAULT_EPOCHS",
    "training.batch_size": "DEFAULT_BATCH_SIZE",
    "training.learning_rate": "DEFAULT_LEARNING_RATE",
    "training.validation_fraction": "VALIDATION_SPLIT",
    "training.checkpoint_every": "CHECKPOINT_INTERVAL",
    "training.device": "PYTORCH_DEVICE",
    "training.num_threads": "TORCH_NUM_THREADS",
    "training.mixed_precision": "MIXED_PRECISION_ENABLED",
    "training.tracking_uri": "MLFLOW_TRACKING_URI",
    "training.experiment": "MLFLOW_EXPERIMENT_NAME",
}
"""The environment variable of each setting by its path. Those without ``TAMIZ`` are the published ones."""


def load_settings(environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """The settings that are given, completed by environment variables, the repository and the defaults.

    Args:
        environment: environment variables, such as ``os.environ``; empty ones count as unset.
        given: settings by name, which take precedence; one that is None counts as not given.

    Returns:
        the settings. Unless a model is named, it is the only one of the repository.

    Raises:
        UsageError: a setting is unknown or wrong, and the message has all problems; or the repository has no model, or
            several, and none is named.
        RepositoryError: no model is named, and the repository cannot be read.
    """
    check_type("environment", environment, (Mapping, type(None)), "environment variables, such as os.environ")
    variables = environment or {}
    values: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        section, _, key = name.rpartition(".")
        if text := variables.get(variable):
            (values.setdefault(section, {}) if section else values)[key] = text
    values |= {name: value for name, value in given.items() if value is not None}
    if "model" not in values:
        values["model"] = _only_model(Path(values.get("repository", DEFAULT_REPOSITORY)))
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        raise UsageError(f"gateway: {_describe(exc, given)}") from exc


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _only_model(path: Path) -> str:
    models = Repository(path).models()
    if len(models) == 1:
        return models[0]
    found = f"has several models ({list_names(models)})" if models else "has no models yet"
    raise UsageError(f"--model is missing: the model repository {path} {found}; name the one to serve")


def _describe(exc: ValidationError, given: Mapping[str, Any]) -> str:
    """All problems, each under the name by which the setting was given; a key is never shown."""
    if any(error["loc"] and error["loc"][0] in ("triton_key", "classify_key", "admin_key") for error in exc.errors()):
        return "; ".join(
            f"{_source('.'.join(map(str, error['loc'])), given)}: {error['msg']}" if error["loc"] else error["msg"]
            for error in exc.errors()
        )
    text = describe(exc)
    for name, variable in VARIABLES.items():
        if given.get(name.partition(".")[0]) is None:
            text = text.replace(f"{name}: ", f"{variable}: ")
    return text


def _source(name: str, given: Mapping[str, Any]) -> str:
    return name if given.get(name.partition(".")[0]) is not None else VARIABLES.get(name, name)
