from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Served


@pytest.fixture
def folder(even_image: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(10):
        even_image(index, name=f"images/{index}.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image, and not named like one")
    return tmp_path / "images"


def test_a_folder_becomes_a_csv_file(served: Served, tamiz: Callable[..., object], folder: Path) -> None:
    out = folder / "out.csv"
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out, "--top-k", 2)
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[0] == ["path", "label", "score", "version", "error", "label_2", "score_2"]
    assert [row[1] for row in rows[1:]] == [f"grey {index}" for index in range(10)]
    assert {row[3] for row in rows[1:]} == {"1"}
    assert "10 images, 0 of them unreadable" in done.stdout


def test_a_broken_image_is_a_row_with_its_error_and_the_others_go_on(
    served: Served, tamiz: Callable[..., object], folder: Path
) -> None:
    (folder / "5.png").write_bytes(b"broken")
    out = folder / "out.jsonl"
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out)
    assert done.returncode == 1
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(records[0]) == ["path", "label", "score", "version", "error"]
    assert "5.png: not an image" in records[5]["error"]
    assert [record["label"] for record in records if record["label"]] == [f"grey {i}" for i in range(10) if i != 5]


def test_names_that_are_markup_or_not_utf_8_are_only_names(
    served: Served, tamiz: Callable[..., object], folder: Path
) -> None:
    content = (folder / "3.png").read_bytes()
    (folder / "sub[").mkdir()
    (folder / "sub[" / "b].png").write_bytes(content)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(content)
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url)
    assert done.returncode == 0, done.stderr
    assert "b].png" in done.stdout
    for out in (folder / "out.csv", folder / "out.jsonl"):
        assert tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out).returncode == 0
        assert out.is_file()
    assert b"\xff.png" in (folder / "out.csv").read_bytes()


def test_json_is_one_document_on_one_line(served: Served, tamiz: Callable[..., object], folder: Path) -> None:
    done = tamiz("classify", folder / "3.png", "--model", "grey", "--url", served.triton.url, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["results"][0]["label"] == "grey 3"
    assert done.stdout.count("\n") == 1


def test_without_out_a_table_is_printed(served: Served, tamiz: Callable[..., object], folder: Path) -> None:
    done = tamiz("classify", folder / "3.png", "--model", "grey", "--url", served.triton.url)
    assert "grey 3" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["none.png", "--model", "grey"], 2, "none.png: no such file or folder", id="missing file"),
        pytest.param(["EMPTY", "--model", "grey"], 2, "no images in", id="no images"),
        pytest.param(["FOLDER"], 2, "Missing option", id="no model"),
        pytest.param(["FOLDER", "--model", "grey", "--out", "x.txt"], 2, "write a .csv or a .jsonl", id="kind of file"),
        pytest.param(["FOLDER", "--model", "grey", "--out", "/no/where/x.csv"], 2, "No such file", id="no folder"),
        pytest.param(["FOLDER", "--model", "gray"], 1, "unknown model: 'gray'", id="unknown model"),
        pytest.param(
            ["FOLDER", "--model", "grey", "--url", "grpc://127.0.0.1:9"],
            1,
            "no server answers",
            id="no server",
        ),
        pytest.param(["FOLDER", "--model", "grey", "--url", "nonsense"], 2, "grpc://host:port", id="url"),
        pytest.param(["FOLDER", "--model", "grey", "--top-k", "0"], 2, "--top-k", id="top_k"),
        pytest.param(["FOLDER", "--model", "grey", "--tpo-k", "1"], 2, "--tpo-k", id="unknown option"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_status(
    arguments: list[str],
    status: int,
    message: str,
    served: Served,
    tamiz: Callable[..., object],
    folder: Path,
) -> None:
    (folder / "empty").mkdir()
    places = {"FOLDER": str(folder), "EMPTY": str(folder / "empty")}
    arguments = [places.get(argument, argument) for argument in arguments]
    if "--url" not in arguments:
        arguments += ["--url", served.triton.url]
    done = tamiz("classify", *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(folder.glob(".*"))
