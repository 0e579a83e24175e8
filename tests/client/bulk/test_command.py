from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import TAMIZ, Served
from fleet import MODEL, Fleet
from graphs import make_spec

from tamiz.bulk.journal import Journal


@pytest.fixture
def folder(even_image: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(10):
        even_image(index, name=f"images/{index}.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image, and not named like an image")
    return tmp_path / "images"


def test_a_folder_is_classified_to_a_csv_file(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    out = folder / "out.csv"
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out, "--top-k", 2)
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[0] == ["path", "label", "score", "version", "error", "label_2", "score_2"]
    assert [row[1] for row in rows[1:]] == [f"grey {index}" for index in range(10)]
    assert {row[3] for row in rows[1:]} == {"1"}
    assert "10 images, 0 of them unreadable" in done.stdout
    assert done.stdout.endswith("\nleft out: .txt files (1)\n")


def test_an_unreadable_image_becomes_an_error_row_and_the_job_continues(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    (folder / "5.png").write_bytes(b"broken")
    out = folder / "out.jsonl"
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out)
    assert done.returncode == 3
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(records[0]) == ["path", "label", "score", "version", "error"]
    assert "5.png: not an image" in records[5]["error"]
    assert [record["label"] for record in records if record["label"]] == [f"grey {i}" for i in range(10) if i != 5]


def test_a_file_name_may_contain_markup_or_not_be_utf_8(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
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
    assert "/%FF.png" in (folder / "out.csv").read_text(encoding="utf-8")


def test_json_output_is_one_document_on_one_line(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    done = tamiz("classify", folder / "3.png", "--model", "grey", "--url", served.triton.url, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["results"][0]["label"] == "grey 3"
    assert done.stdout.count("\n") == 1
    document = json.loads(tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--json").stdout)
    assert document["left_out"] == {".txt files": 1}


def test_without_an_output_file_a_table_is_printed(
    served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    done = tamiz("classify", folder / "3.png", "--model", "grey", "--url", served.triton.url)
    assert "grey 3" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["none.png", "--model", "grey"], 2, "none.png: no such file or folder", id="missing file"),
        pytest.param(["EMPTY", "--model", "grey"], 2, "no images in", id="no images"),
        pytest.param(["FOLDER"], 2, "Missing option", id="no model"),
        pytest.param(
            ["FOLDER", "--model", "grey", "--out", "x.txt"],
            2,
            "write a .csv, .jsonl or .parquet",
            id="kind of file",
        ),
        pytest.param(
            ["FOLDER", "--model", "grey", "--out", "/no/where/x.csv"],
            1,
            "cannot be written: No such file",
            id="no folder",
        ),
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
def test_an_error_is_one_line_and_an_exit_code(
    arguments: list[str],
    status: int,
    message: str,
    served: Served,
    tamiz: Callable[..., subprocess.CompletedProcess[str]],
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


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("slow"), 1, seconds=0.004) as fleet:
        yield fleet


@pytest.fixture
def many(tmp_path: Path, even_image: Callable[..., Path]) -> Path:
    """A tar file of 2,000 images; one in a hundred is unreadable."""
    contents = [even_image(index).read_bytes() for index in range(10)]
    with tarfile.open(tmp_path / "many.tar", "w") as archive:
        for number in range(2000):
            content = b"broken" if number % 100 == 50 else contents[number % 10]
            member = tarfile.TarInfo(f"{number:05}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return tmp_path / "many.tar"


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_job_that_is_killed_repeatedly_ends_with_each_row_once(
    suffix: str, slow: Fleet, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"out{suffix}"
    command = [TAMIZ, "classify", many, "--model", MODEL, "--url", slow.url, "--out", out, "--resume", "--top-k", "2"]
    journal, part = tmp_path / f"out{suffix}.journal", tmp_path / f".out{suffix}.part"
    kills = 0
    # The journal is the same for every format, so only one format is killed early and late too. The last kill hits
    # while the output file is written, if this test is fast enough.
    sizes = (20_000, 90_000, 180_000) if suffix == ".parquet" else (90_000,)
    for path, size in (*((journal, size) for size in sizes), (part, 0)):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > size:
                    job.kill()
                    kills += 1
                    break
        job.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert kills >= len(sizes)
    assert not list(tmp_path.glob(".*"))
    rows = read(out)
    assert [row["path"] for row in rows] == [f"{many}/{number:05}.png" for number in range(2000)]
    for number, row in enumerate(rows):
        if number % 100 == 50:
            assert "not an image" in str(row["error"])
        else:
            assert row["label"] == f"grey {number % 10}"
    assert not journal.exists()
    assert "2,000 images, 20 of them unreadable" in done.stdout


def test_a_job_that_is_terminated_keeps_its_rows_and_explains_how_to_continue(
    slow: Fleet, many: Path, tmp_path: Path
) -> None:
    command = [TAMIZ, "classify", many, "--model", MODEL, "--url", slow.url, "--out", tmp_path / "out.csv"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out.csv.journal"
    while job.poll() is None and not (journal.exists() and journal.stat().st_size > 30_000):
        time.sleep(0.01)
    job.terminate()
    _, error = job.communicate(timeout=10)
    assert job.returncode == 130
    assert re.search(r"[\d,]+ results are kept in .*; continue with --resume\n", error)
    assert error.endswith("error: interrupted\n")


def test_a_job_whose_server_stops_keeps_its_rows_and_explains_how_to_continue(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], slow: Fleet, many: Path, tmp_path: Path, served: Served
) -> None:
    url, out = slow.url, tmp_path / "out.jsonl"
    arguments = ["classify", many, "--model", MODEL, "--out", out, "--timeout-s", "1", "--url"]
    journal = tmp_path / "out.jsonl.journal"

    def kill_server_midway() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (journal.exists() and journal.stat().st_size > 30_000):
            time.sleep(0.01)
        slow.kill(0)

    killer = threading.Thread(target=kill_server_midway)
    killer.start()
    done = tamiz(*arguments, url)
    killer.join()
    slow.restart(0)
    assert done.returncode == 1
    assert "results are kept in" in done.stderr
    assert "error: no server answers" in done.stderr
    # The same model on another server.
    finished = tamiz(*arguments, served.triton.url, "--resume")
    assert finished.returncode == 3, finished.stderr
    assert [row["path"] for row in read(out)] == [f"{many}/{number:05}.png" for number in range(2000)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ""])
def test_an_unreadable_image_may_have_a_name_that_is_not_utf_8(
    suffix: str, tamiz: Callable[..., subprocess.CompletedProcess[str]], served: Served, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "images") + b"/\xff.png")).write_bytes(b"broken")
    out = ["--out", tmp_path / f"out{suffix}"] if suffix else []
    done = tamiz("classify", tmp_path / "images", "--model", "grey", "--url", served.triton.url, *out)
    assert done.returncode == 3
    assert not done.stderr
    assert "1 image, 1 of them unreadable" in done.stdout
    assert list(tmp_path.glob("out*")) == ([tmp_path / f"out{suffix}"] if suffix else [])
    if suffix == ".parquet":
        (row,) = read(tmp_path / "out.parquet")
        assert "\\udcff.png" in row["error"]


def test_resuming_a_complete_job_does_nothing(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path, served: Served, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    arguments = ["--model", "grey", "--url", served.triton.url, "--out", out]
    (folder / "5.png").write_bytes(b"broken")
    assert tamiz("classify", folder, *arguments, "--resume").returncode == 3
    rows = out.read_bytes()
    again = tamiz("classify", folder / "3.png", *arguments, "--resume")
    assert again.returncode == 0
    assert "out.csv is complete: nothing to resume" in again.stderr
    assert out.read_bytes() == rows
    assert tamiz("classify", folder / "3.png", *arguments).returncode == 0
    assert len(read(out)) == 1


def test_a_truncated_tar_file_becomes_an_error_row_and_the_job_continues(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path, many: Path, served: Served, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken.tar", tmp_path / "out.jsonl"
    # Truncated 8 bytes after the header of its 30th member (512 bytes header + 512 bytes content each).
    broken.write_bytes(many.read_bytes()[: 29 * 1024 + 520])
    arguments = [folder / "1.png", broken, folder, broken, "--model", "grey", "--url", served.triton.url, "--out", out]
    done = tamiz("classify", *arguments)
    assert done.returncode == 3, done.stderr
    rows = read(out)
    errors = [place for place, row in enumerate(rows) if row["path"] == str(broken)]
    assert errors == [30, 30 + 10 + 30]
    assert len(rows) == 71
    assert "broken.tar: unreadable tar file: " in str(rows[30]["error"])


def test_a_job_whose_inputs_have_changed_cannot_be_resumed(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path, served: Served, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    job = {"model": "grey", "inputs": [str(folder)], "top_k": 1, "multilabel": False}
    with Journal(out, job, resume=False) as journal:
        # The first image has since been replaced by another; the second is unchanged.
        for name in ("gone.png", "1.png"):
            journal.append({"path": f"{folder}/{name}", "label": "x", "score": 1.0, "version": 1, "error": None})
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out, "--resume")
    assert done.returncode == 2
    assert "image 1 was" in done.stderr
    assert "the inputs have changed" in done.stderr


def test_a_multilabel_model_gives_all_labels_at_or_above_their_thresholds(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path, served: Served
) -> None:
    name = served.new_name()
    labels = [f"grey {index}" for index in range(10)]
    served.publish(name, make_spec(labels, task="multilabel", thresholds=(0.2,) * 10))
    for suffix in (".csv", ".jsonl", ".parquet"):
        out = folder / f"out{suffix}"
        done = tamiz("classify", folder / "4.png", "--model", name, "--url", served.triton.url, "--out", out)
        assert done.returncode == 0, done.stderr
        (row,) = read(out)
        labels_found = row["labels"].split("|") if suffix == ".csv" else [scored["label"] for scored in row["labels"]]
        assert labels_found[0] == "grey 4"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_result_has_its_provenance_on_request(
    suffix: str, served: Served, tamiz: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    (folder / "5.png").write_bytes(b"broken")
    out = folder / f"out{suffix}"
    done = tamiz("classify", folder, "--model", "grey", "--url", served.triton.url, "--out", out, "--provenance")
    assert done.returncode == 3, done.stderr
    rows = read(out)
    columns = ["path", "label", "score", "version", "error", "model", "onnx_sha256", "spec_sha256", "url", "time"]
    assert list(rows[0]) == columns
    manifest = served.repository.live_version("grey").manifest
    expected = ("grey", manifest["onnx_sha256"], manifest["spec_sha256"], served.triton.url)
    names = ("model", "onnx_sha256", "spec_sha256", "url")
    for row in rows:
        unreadable = row["error"] is not None
        assert tuple(row[name] for name in names) == ((None,) * 4 if unreadable else expected)
        assert (row["time"] is None) == unreadable
    assert datetime.fromisoformat(str(rows[0]["time"])).utcoffset() == timedelta(0)
