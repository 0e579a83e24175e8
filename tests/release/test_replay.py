"""Replays of bulk jobs, in this process and by a real Triton."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Served
from graphs import grey_level, make_spec, write_grey_graph

from tamiz import ExportError, Prediction, UsageError
from tamiz.bulk.results import to_record, write_records
from tamiz.prediction import Scored
from tamiz_release.replay import RecordedVersion, Replay, VersionGoneError, replay_results
from tamiz_release.replayed_version import open_on_disk
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 12 images of noise, whose probabilities need all bits, and a tar file of two more."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(12):
        pixels = noise.integers(0, 256, (40, 30), np.uint8) // 2 + grey_level(number % 10, 10) // 2
        cv2.imwrite(str(folder / f"{number:02}.png"), pixels.astype(np.uint8))
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        for number in (3, 4):
            archive.add(folder / f"{number:02}.png", f"inside/{number}.png")
    return folder


def classify(tamiz: Tamiz, served: Served, model: str, out: Path, *arguments: object) -> None:
    done = tamiz("classify", *arguments, "--model", model, "--url", served.triton.url, "--out", out, cwd=out.parent)
    assert done.returncode in (0, 3), done.stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_results_are_the_same_to_the_bit_in_this_process_and_by_the_server(
    suffix: str, images: Path, served: Served, tamiz: Tamiz, tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes(b"broken")
    out = tmp_path / f"out{suffix}"
    classify(tamiz, served, "grey", out, "images", "more.tar", "--provenance", "--top-k", "3")
    for place in (["--repository", served.repository.path], ["--url", served.triton.url]):
        done = tamiz("replay", out, *place, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads(done.stdout)
        assert (document["results"], document["replayed"], document["same"]) == (14, 14, 14)
        assert document["differences"] == document["missing_images"] == document["missing_versions"] == []


def test_a_result_that_was_changed_is_named_and_fails(
    images: Path, served: Served, tamiz: Tamiz, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    classify(tamiz, served, "grey", out, images, "--provenance")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    records[2]["label"] = "another"
    records[5]["score"] = float(np.nextafter(np.float32(records[5]["score"]), np.float32(0)))
    out.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = tamiz("replay", out, "--repository", served.repository.path)
    assert done.returncode == 1
    assert "02.png" in done.stdout
    assert "05.png" in done.stdout
    assert "10 of 12 images that were classified again in this process have the same labels" in done.stdout
    assert "1 images have another label; the largest difference of a probability is" in done.stdout


def test_a_version_that_is_no_longer_live_is_replayed_from_the_repository_only(
    images: Path, served: Served, tamiz: Tamiz, tmp_path: Path
) -> None:
    name, out = served.new_name(), tmp_path / "out.csv"
    served.publish(name, make_spec([f"a{index}" for index in range(10)]))
    served.publish(name, make_spec([f"b{index}" for index in range(10)]))
    classify(tamiz, served, name, out, images, "--provenance")
    assert tamiz("replay", out, "--url", served.triton.url).returncode == 0
    promote(served.repository, name, 2, control=served.control)
    assert tamiz("replay", out, "--repository", served.repository.path).returncode == 0
    done = tamiz("replay", out, "--url", served.triton.url)
    assert done.returncode == 1
    assert f"not replayed: 12 images of {name} version 1: {served.triton.url} does not serve" in done.stderr
    assert "nothing was replayed" in done.stdout


def test_missing_images_are_counted_and_named(images: Path, served: Served, tamiz: Tamiz, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    classify(tamiz, served, "grey", out, "images", "more.tar")
    (images / "03.png").unlink()
    (images / "04.png").write_bytes(b"broken")
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(images / "05.png", "inside/3.png")
    place = ["--repository", served.repository.path, "--model", "grey"]
    done = tamiz("replay", out, *place, cwd=tmp_path)
    # The member that was replaced has another result.
    assert done.returncode == 1
    assert "not replayed: images/03.png: no such file" in done.stderr
    assert "04.png: not an image" in done.stderr
    assert "not replayed: more.tar/inside/4.png: not in more.tar" in done.stderr
    (tmp_path / "more.tar").unlink()
    done = tamiz("replay", out, *place, "--root", tmp_path)
    assert (done.returncode, done.stdout.count("10 of 10 images")) == (3, 1)


def test_results_without_provenance_need_the_name_of_their_model(
    images: Path, served: Served, tamiz: Tamiz, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    classify(tamiz, served, "grey", out, images)
    done = tamiz("replay", out, "--repository", served.repository.path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pass --model, or write them with --provenance" in done.stderr
    done = tamiz("replay", out, "--repository", served.repository.path, "--model", "grey", "--sample", 5)
    assert done.returncode == 0
    assert "5 of 5 images" in done.stdout
    assert "(12 results in the file)" in done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository, spec = Repository(tmp_path / "models"), make_spec(["cat", "dog"])
    repository.publish("pets", write_grey_graph(tmp_path / "graph.onnx", spec), spec)
    return repository


def version_of(repository: Repository, **changes: object) -> RecordedVersion:
    manifest = repository.live_version("pets").manifest
    recorded = {"model": "pets", "version": 1, "onnx_sha256": manifest["onnx_sha256"], "spec_sha256": None}
    return RecordedVersion(**(recorded | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "cars"}, "no model cars in"),
        ({"model": "../models/pets"}, "no model ../models/pets in"),
        ({"version": 2}, "no version 2 of pets in"),
        ({"version": 0}, "no version 0 of pets in"),
        ({"onnx_sha256": "0" * 64}, "its graph is another one"),
        ({"spec_sha256": "0" * 64}, "its spec is another one"),
    ],
)
def test_a_version_that_is_not_there_as_it_was_recorded_is_gone(
    changes: dict[str, object], reason: str, repository: Repository
) -> None:
    with pytest.raises(VersionGoneError, match=reason), open_on_disk(repository)(version_of(repository, **changes), 1):
        pass


def test_a_version_is_replayed_with_its_own_accelerators_and_not_with_those_of_the_live_one(
    repository: Repository, tmp_path: Path
) -> None:
    """The live version needs TensorRT, which no machine of these tests has."""
    spec = make_spec(["cat", "dog"])
    accelerators = {"gpu_execution_accelerator": [{"name": "tensorrt"}]}
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    first = version_of(repository)
    repository.publish("pets", graph, spec, manifest={"accelerators": accelerators})
    second = version_of(repository, version=2)
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((9, 9), np.uint8))
    for live in (2, 1):
        if live == 2:
            promote(repository, "pets", 2)
        else:
            rollback(repository, "pets")
        with open_on_disk(repository)(first, 1) as predict:
            assert [each.label for each in predict([tmp_path / "dark.png"], 1)] == ["cat"]
        with pytest.raises(ExportError, match="tensorrt"), open_on_disk(repository)(second, 1):
            pass


def test_results_of_several_versions_are_each_replayed_by_their_own(repository: Repository, tmp_path: Path) -> None:
    spec = make_spec(["cow", "sheep", "goat"])
    repository.publish("pets", write_grey_graph(tmp_path / "graph.onnx", spec), spec)
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((9, 9), np.uint8))
    records = []
    for version, label in ((1, "cat"), (2, "cow"), (3, "gnu")):
        with open_on_disk(repository)(version_of(repository, version=min(version, 2), onnx_sha256=None), 3) as predict:
            (now,) = predict([tmp_path / "dark.png"], 2)
        top = (Scored(label, now.score), *now.top[1:])
        records.append(to_record("dark.png", Prediction(label, now.score, 0, top, (), version, "pets")))
    write_records(tmp_path / "out.jsonl", records, top_k=2, multilabel=False)
    found = replay_results(tmp_path / "out.jsonl", open_on_disk(repository), model="pets", root=tmp_path)
    assert (found.replayed, found.same) == (2, 2)
    assert found.missing_versions == (("pets version 3", 1, f"no version 3 of pets in {repository.path}"),)


def test_the_sample_is_drawn_evenly_from_all_results_and_again_with_the_same_seed(
    repository: Repository, tmp_path: Path
) -> None:
    record = to_record("x", Prediction("cat", 0.5, 0, (Scored("cat", 0.5),), (), 1, "pets"))
    write_records(tmp_path / "out.csv", [record | {"path": f"{n}.png"} for n in range(40)], top_k=1, multilabel=False)

    def sampled(seed: int) -> list[str]:
        opened = open_on_disk(repository)
        found = replay_results(tmp_path / "out.csv", opened, model="pets", sample=10, seed=seed, root=tmp_path)
        assert (found.results, found.replayed) == (40, 0)
        return [path for path, _ in found.missing_images]

    samples = [sampled(seed) for seed in range(60)]
    assert samples[7] == sampled(7)
    assert all(len(set(sample)) == 10 for sample in samples)
    # Each of 40 results is in a sample of 10 with a probability of 1/4: in 15 of 60 samples, give or take 3.4.
    counts = [sum(f"{n}.png" in sample for sample in samples) for n in range(40)]
    assert min(counts) > 1
    assert max(counts) < 29


@pytest.mark.parametrize(("name", "value"), [("sample", 0), ("sample", "5"), ("seed", -1), ("path", None)])
def test_a_wrong_argument_is_a_usage_error(name: str, value: object, repository: Repository) -> None:
    with pytest.raises(UsageError, match=name):
        replay_results(**({"path": Path("x.csv"), "open_version": open_on_disk(repository)} | {name: value}))


def test_a_summary_counts_labels_apart_from_probabilities() -> None:
    found = Replay(5, 4, (), (), ())
    assert (found.same, found.other_labels, found.largest_difference) == (4, 0, 0.0)
