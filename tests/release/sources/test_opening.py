"""Models that are evaluated, by the one word that names them on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Served
from graphs import grey_level, make_spec, write_grey_graph
from tls_proxy import Authority, TlsProxy

from tamiz import ModelNotFoundError, RunError, Tls, UsageError
from tamiz_release.sources import open_source
from tamiz_server.repository import Repository
from tamiz_train.data import Split
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data

GREYS = Split("test", np.stack([np.full((28, 28), grey_level(i, 3), np.uint8) for i in range(3)]), np.arange(3))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A model with two versions, of which the second has its labels in another order."""
    repository = Repository(tmp_path / "repository")
    for labels in (["dark", "grey", "bright"], ["bright", "grey", "dark"]):
        spec = make_spec(labels)
        repository.publish("light", write_grey_graph(tmp_path / "light.onnx", spec), spec)
    return repository


def test_a_run_is_named_by_its_folder(trained: Run) -> None:
    with open_source(str(trained.path), Path("none")) as source:
        measured = source.evaluate(load_run_data(trained).test)
        assert source.run == trained
        assert len(source.fitted_images) == trained.metrics["images"]["train"] + trained.metrics["images"]["validation"]
    assert measured.metrics == pytest.approx(trained.metrics["test"], abs=1e-5)


def test_a_published_version_is_named_by_its_model_and_number(repository: Repository) -> None:
    for name, labels, title in (
        ("light/2", ("bright", "grey", "dark"), "light version 2"),
        ("light", ("dark", "grey", "bright"), "light version 1"),
    ):
        with open_source(name, repository.path) as source:
            assert (source.spec.labels, source.title, source.run) == (labels, title, None)
            assert source.fitted_images is None
            assert source.evaluate(GREYS).metrics["accuracy"] == 1


def test_a_folder_of_images_does_not_hide_the_model_of_its_name(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "light" / "2").mkdir(parents=True)
    for name, title in (("light", "light version 1"), ("light/2", "light version 2")):
        with open_source(name, repository.path) as source:
            assert source.title == title


def test_a_folder_of_runs_is_preferred_to_the_model_of_its_name(
    repository: Repository, tmp_path: Path, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "light").symlink_to(trained.path.parent)
    with open_source("light", repository.path) as source:
        assert source.run is not None


def test_an_onnx_file_is_named_by_its_path(repository: Repository) -> None:
    with open_source(str(repository.path / "light" / "2" / "model.onnx"), Path("none")) as source:
        assert source.spec.labels == ("bright", "grey", "dark")


def test_a_model_of_a_running_server_is_named_by_its_url(served: Served) -> None:
    with open_source(f"{served.triton.url}/grey", Path("none")) as source:
        assert source.title == f"grey version 1 at {served.triton.url}"
        images = np.stack([np.full((28, 28), grey_level(index, 10), np.uint8) for index in range(10)])
        assert source.evaluate(Split("test", images, np.arange(10))).metrics["accuracy"] == 1
    with pytest.raises(ModelNotFoundError), open_source(f"{served.triton.url}/none", Path("none")):
        pass


def test_a_model_behind_tls_is_reached_with_the_authority_that_signed_the_certificate(
    served: Served, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    with TlsProxy(served.triton.ports.grpc, authority) as proxy:
        name = f"grpcs://127.0.0.1:{proxy.port}/grey"
        with open_source(name, Path("none"), tls=Tls(ca=authority.path), headers={"x": "y"}) as source:
            assert source.spec.labels[0] == "grey 0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lihgt", r"no model lihgt: it is neither the folder of a run, nor .*; did you mean 'light'\?"),
        ("digits", "nor a model in .*repository; known: light"),
        ("light/3", "no version 3 of light in .*; there are: 1, 2"),
        ("light@1", "no model light@1: .*; a version is written as in light/1$"),
        ("light:2", "no model light:2: .*; a version is written as in light/2$"),
        ("light/x", "no model light/x: .*; a version is a number, as in digits/3"),
        ("none.onnx", "none.onnx: no such file"),
        ("grpc://localhost:8001", "name the model too, as in grpc://localhost:8001/digits"),
        ("grpc://localhost:8001/", "name the model too"),
    ],
)
def test_an_unknown_model_is_an_error_that_says_what_there_is(name: str, message: str, repository: Repository) -> None:
    with pytest.raises(UsageError, match=message), open_source(name, repository.path):
        pass


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run in"), open_source(str(tmp_path), Path("none")):
        pass
