"""The walk through a folder of images, which classification and training share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tamiz.image_files import Found, summarise, walk, why_left_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("b.png", "a.JFIF", "deep/er/c.webp", "deep/d.tiff"):
        write(folder / name)
    return folder


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def images(folder: Path) -> list[str]:
    return [os.path.relpath(found.path, folder) for found in walk(folder) if not found.left_out and not found.error]


def left_out(folder: Path) -> dict[str, str]:
    return {os.path.relpath(found.path, folder): found.left_out for found in walk(folder) if found.left_out}


def test_the_images_of_a_folder_are_found_in_a_fixed_order(folder: Path) -> None:
    assert images(folder) == ["a.JFIF", "b.png", "deep/d.tiff", "deep/er/c.webp"]
    assert left_out(folder) == {}


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"])
def test_every_usual_suffix_of_a_supported_format_is_an_image(suffix: str) -> None:
    assert why_left_out(f"photo{suffix}") == ""


def test_links_to_folders_and_files_are_followed(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "e.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "z.png").symlink_to(tmp_path / "elsewhere" / "e.png")
    assert images(folder)[-2:] == ["linked/e.png", "z.png"]


def test_a_link_to_a_folder_that_contains_it_is_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "deep" / "again").symlink_to(folder)
    (folder / "deep" / "above").symlink_to(tmp_path)
    assert len(images(folder)) == 4
    assert set(left_out(folder)) == {"deep/again", "deep/above"}
    assert set(left_out(folder).values()) == {"links to a folder that contains them"}


def test_folders_that_link_to_each_other_end_the_walk(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        write(tmp_path / one / f"{one}.png")
        (tmp_path / one / "other").symlink_to(tmp_path / other)
    assert images(tmp_path) == ["a/a.png", "a/other/b.png", "b/b.png", "b/other/a.png"]


def test_a_very_deep_folder_is_searched_as_far_as_the_system_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        Path("a").mkdir()
        write(Path("x.png"))
        os.chdir("a")
    os.chdir(tmp_path)
    assert len(images(tmp_path)) == 1500
    # Not left to pytest, whose removal of a folder calls itself for each level.
    subprocess.run(["rm", "-r", "a"], check=True)


def test_a_broken_link_with_the_name_of_an_image_is_found_and_fails_when_it_is_read(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    assert "gone.png" in images(folder)
    assert left_out(folder) == {"loop": "files with other names"}


def test_hidden_files_hidden_folders_and_system_folders_are_left_out_with_the_reason(folder: Path) -> None:
    for name in ("._b.png", ".ipynb_checkpoints/b-checkpoint.png", "__MACOSX/._a.png", "deep/@eaDir/d.png"):
        write(folder / name)
    assert len(images(folder)) == 4
    assert left_out(folder) == {
        "._b.png": "hidden files and folders",
        ".ipynb_checkpoints": "hidden files and folders",
        "__MACOSX": "folders of operating systems",
        "deep/@eaDir": "folders of operating systems",
    }


def test_a_hidden_folder_that_is_named_is_searched(folder: Path) -> None:
    folder.rename(folder.with_name(".cache"))
    assert len(images(folder.with_name(".cache"))) == 4


def test_a_file_with_another_suffix_is_left_out_with_its_suffix(folder: Path) -> None:
    for name in ("notes.TXT", "README", "x.a-long-suffix", os.fsdecode(b"x.\xff")):
        write(folder / name)
    assert set(left_out(folder).values()) == {".txt files", "files with other names"}
    assert len(left_out(folder)) == 4


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(folder: Path) -> None:
    assert list(walk(folder / "none")) == [Found(f"{folder}/none", error="No such file or directory")]
    (folder / "loop").symlink_to(folder / "loop")
    assert "symbolic links" in next(walk(folder / "loop")).error


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("./images/a.png", ""),
        ("images/.git/a.png", "hidden files and folders"),
        ("__MACOSX/a.png", "folders of operating systems"),
        ("images/.a.png", "hidden files and folders"),
        ("images/a", "files with other names"),
    ],
)
def test_the_path_of_a_tar_member_is_judged_like_that_of_a_file(path: str, reason: str) -> None:
    assert why_left_out(path) == reason


def test_a_summary_lists_the_most_frequent_reasons() -> None:
    assert summarise({}) == ""
    assert summarise({"hidden files and folders": 2, ".txt files": 3}) == (
        "left out: .txt files (3), hidden files and folders (2)"
    )
    assert summarise({f".{number} files": number for number in range(1, 11)}) == (
        "left out: .10 files (10), .9 files (9), .8 files (8), .7 files (7), .6 files (6), other files (15)"
    )
