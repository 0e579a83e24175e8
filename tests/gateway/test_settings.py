from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphs import make_spec, write_grey_graph

from tamiz import UsageError
from tamiz_gateway import Settings, TrainingSettings, load_settings
from tamiz_gateway.settings import VARIABLES, is_loopback
from tamiz_server import Repository

ENVIRONMENT_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "environment.md"


def test_published_variables_are_honoured() -> None:
    settings = load_settings(
        {
            "ML_CLASSIFIER_PORT": "9000",
            "ML_CLASSIFIER_HOST": "localhost",
            "ML_CLASSIFIER_WORKERS": "3",
            "MODEL_SAVE_DIR": "elsewhere",
            "TAMIZ_GATEWAY_MODEL": "pets",
        }
    )
    assert (settings.port, settings.host, settings.workers) == (9000, "localhost", 3)
    assert (settings.repository, settings.model) == (Path("elsewhere"), "pets")


def test_published_variables_of_training_are_honoured() -> None:
    settings = load_settings(
        {
            "DEFAULT_MODEL_ARCHITECTURE": "resnet18",
            "CHECKPOINT_INTERVAL": "5",
            "DEFAULT_BATCH_SIZE": "8",
            "DEFAULT_LEARNING_RATE": "1e-3",
            "DEFAULT_EPOCHS": "7",
            "VALIDATION_SPLIT": "0.25",
            "PYTORCH_DEVICE": "cpu",
            "TORCH_NUM_THREADS": "3",
            "MIXED_PRECISION_ENABLED": "true",
            "MLFLOW_TRACKING_URI": "sqlite:///runs.db",
            "MLFLOW_EXPERIMENT_NAME": "pets",
        },
        model="pets",
    )
    assert settings.training == TrainingSettings(
        architecture="resnet18",
        checkpoint_every=5,
        batch_size=8,
        learning_rate=0.001,
        epochs=7,
        validation_fraction=0.25,
        device="cpu",
        num_threads=3,
        mixed_precision=True,
        tracking_uri="sqlite:///runs.db",
        experiment="pets",
    )
    with pytest.raises(UsageError, match="VALIDATION_SPLIT: '2'"):
        load_settings({"VALIDATION_SPLIT": "2"}, model="pets")


def test_defaults_are_the_published_port_and_the_loopback() -> None:
    settings = Settings(model="pets")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8003, 1)


def test_what_is_given_takes_precedence_and_empty_variables_count_as_unset() -> None:
    settings = load_settings({"ML_CLASSIFIER_PORT": "9000", "ML_CLASSIFIER_HOST": ""}, model="pets", port=0, host=None)
    assert (settings.port, settings.host) == (0, "127.0.0.1")


def test_all_problems_are_named_by_what_set_them() -> None:
    with pytest.raises(UsageError) as caught:
        load_settings({"ML_CLASSIFIER_PORT": "many", "TAMIZ_GATEWAY_MAX_FILES": "0"}, model="pets", workers=-1)
    for expected in ("ML_CLASSIFIER_PORT: 'many'", "TAMIZ_GATEWAY_MAX_FILES: '0'", "workers: -1"):
        assert expected in str(caught.value)


def test_a_key_is_never_shown() -> None:
    with pytest.raises(UsageError, match="TAMIZ_GATEWAY_ADMIN_KEY: .*at least 8") as caught:
        load_settings({"TAMIZ_GATEWAY_ADMIN_KEY": "secret!", "ML_CLASSIFIER_PORT": "many"}, model="pets")
    assert "secret" not in str(caught.value)
    assert "ML_CLASSIFIER_PORT" in str(caught.value)
    settings = load_settings({"TAMIZ_GATEWAY_ADMIN_KEY": "secret-secret"}, model="pets")
    assert "secret-secret" not in repr(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_a_gateway_that_others_can_reach_needs_a_key(host: str) -> None:
    with pytest.raises(UsageError, match="TAMIZ_GATEWAY_CLASSIFY_KEY"):
        load_settings({}, model="pets", host=host)
    assert load_settings({"TAMIZ_GATEWAY_CLASSIFY_KEY": "long enough"}, model="pets", host=host).host == host


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("127.1.2.3", True), ("[::1]", True)])
def test_the_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_without_a_name_the_model_is_the_only_one_of_the_repository(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "models")
    repository.path.mkdir()
    with pytest.raises(UsageError, match="has no models yet"):
        load_settings({"MODEL_SAVE_DIR": str(repository.path)})
    spec = make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "model.onnx", spec)
    repository.publish("pets", graph, spec)
    assert load_settings({"MODEL_SAVE_DIR": str(repository.path)}).model == "pets"
    repository.publish("digits", graph, spec)
    with pytest.raises(UsageError, match=r"several models \(digits, pets\)"):
        load_settings({}, repository=repository.path)


def test_every_variable_is_documented() -> None:
    documented = set(re.findall(r"`([A-Z_]+)`", ENVIRONMENT_PAGE.read_text()))
    assert set(VARIABLES.values()) <= documented
    training = {f"training.{name}" for name in TrainingSettings.model_fields}
    assert set(VARIABLES) == training | set(Settings.model_fields) - {"state", "training"}
