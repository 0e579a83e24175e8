from __future__ import annotations

import gc
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from tamiz import InvalidImageError, UsageError
from tamiz.bulk.inputs import count_inputs, find_images, find_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.md", "deep/er/c.webp", "deep/d.tiff"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def names(*paths: str | Path) -> list[str]:
    return [image.name for image in find_inputs(paths)]


def test_a_folder_yields_its_image_files_in_a_fixed_order(folder: Path) -> None:
    found = [f"{folder}/{name}" for name in ("a.JPG", "b.png", "deep/d.tiff", "deep/er/c.webp")]
    assert names(folder) == found
    assert count_inputs([folder]) == 4
    assert find_images([folder]) == [Path(name) for name in found]


def test_other_usual_suffixes_of_readable_formats_are_found(tmp_path: Path) -> None:
    usual = [f"photo{suffix}" for suffix in (".jfif", ".jpe", ".dib", ".TIF", ".jpeg", ".webp")]
    for name in usual:
        (tmp_path / name).touch()
    assert names(tmp_path) == sorted(f"{tmp_path}/{name}" for name in usual)


def test_a_named_file_is_an_input_whatever_its_suffix(folder: Path) -> None:
    assert names(folder / "notes.md") == [str(folder / "notes.md")]


def test_files_that_are_left_out_are_counted_by_reason(folder: Path, tmp_path: Path) -> None:
    for name in ("._a.JPG", "__MACOSX/b.png", "deep/.ipynb_checkpoints/c.webp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    counts = {".md files": 1, "hidden files and folders": 2, "folders of operating systems": 1}
    left_out = Counter[str]()
    assert len(list(find_inputs([folder], left_out))) == 4
    assert left_out == counts
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder, "./images")
        (tmp_path / "link.png").symlink_to("a.png")
        archive.add(tmp_path / "link.png", "link.png")
    left_out = Counter[str]()
    assert len(list(find_inputs([tmp_path / "all.tar"], left_out))) == 4
    assert left_out == counts | {"links and devices in tar files": 1}
    left_out = Counter[str]()
    assert len(list(find_inputs([f"{folder}/*.[mp]*"], left_out))) == 1
    assert left_out == {".md files": 1}


def test_the_members_of_a_tar_file_are_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(500):
            archive.addfile(tarfile.TarInfo(f"{number}.png"))
    del archive
    images = find_inputs([path])
    for _ in range(400):
        next(images)
    assert sum(type(one) is tarfile.TarInfo for one in gc.get_objects()) < 20
    assert len(list(images)) == 100


def test_a_pattern_yields_the_image_files_that_match_it(folder: Path) -> None:
    assert names(f"{folder}/*.png") == [str(folder / "b.png")]
    assert names(f"{folder}/**/*") == names(f"{folder}/**") == names(folder)
    assert names(f"{folder}/**/er/**/*.webp") == [f"{folder}/deep/er/c.webp"]
    assert names(f"{folder}/de*/**/*.webp") == [f"{folder}/deep/er/c.webp"]
    (folder / "[x].png").write_bytes(b"")
    assert names(folder / "[x].png") == [str(folder / "[x].png")], "the name of an existing file is not a pattern"


def test_a_pattern_yields_the_images_of_the_folders_that_match_it(folder: Path) -> None:
    assert names(f"{folder}/d*") == [f"{folder}/deep/d.tiff", f"{folder}/deep/er/c.webp"]


def test_a_pattern_is_relative_to_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names("**/*.webp") == ["deep/er/c.webp"]
    assert names("*.png") == ["b.png"]


def test_a_pattern_does_not_follow_a_link_to_a_folder_that_contains_it(folder: Path) -> None:
    for number in range(10):
        (folder / "deep" / f"again{number}").symlink_to(folder)
    assert names(f"{folder}/**/*.tiff") == [f"{folder}/deep/d.tiff"]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_a_tar_file_yields_the_bytes_of_its_images(folder: Path, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"all.{suffix}"
    with tarfile.open(path, f"w:{suffix.replace('tar.', '').replace('tgz', 'gz').replace('tar', '')}") as archive:
        archive.add(folder, "images")
        (tmp_path / "link.png").symlink_to("/etc/passwd")
        archive.add(tmp_path / "link.png", "link.png")
    images = list(find_inputs([path]))
    assert sorted(image.name for image in images) == [
        f"{path}/images/{name}" for name in ("a.JPG", "b.png", "deep/d.tiff", "deep/er/c.webp")
    ]
    assert all(image.name.endswith(image.source.decode()) for image in images)
    assert count_inputs([path]) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "label,path\nx,a.JPG\ny,deep/d.tiff\n"),
        ("list.csv", "\ufeffpath\r\na.JPG\r\ndeep/d.tiff\r\n"),
        ("list.csv", 'label, path\nx, "a.JPG"\ny, deep/d.tiff\n'),
        ("list.txt", "a.JPG\n\ndeep/d.tiff"),
        ("list.csv", "path\na.JPG\nfile:deep%2Fd.tiff\n"),
    ],
)
def test_the_paths_of_a_list_are_relative_to_its_folder(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert names(folder / name) == [f"{folder}/a.JPG", f"{folder}/deep/d.tiff"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda folder: folder / "none", "no such file or folder", id="missing"),
        pytest.param(lambda folder: f"{folder}/*.gif", "no image matches this pattern", id="pattern"),
        pytest.param(lambda folder: f"{folder}/*.md", r"matches this pattern; left out: .md files \(1\)", id="other"),
        pytest.param(lambda folder: "a\0b", "null byte", id="null byte"),
        pytest.param(lambda folder: _write(folder / "a.tar", b"not a tar"), "unreadable tar file", id="tar"),
        pytest.param(lambda folder: _write(folder / "a.csv", b"file,label\na,b\n"), "no column 'path'", id="csv"),
        pytest.param(lambda folder: _write(folder / "a.txt", b"\xff\xfe\xfa"), "utf-8", id="encoding"),
    ],
)
def test_a_first_input_that_is_missing_or_unreadable_is_a_usage_error(make, reason: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        names(make(folder))


def test_an_unreadable_input_carries_the_reason_and_the_next_inputs_follow(folder: Path, tmp_path: Path) -> None:
    cut_off, listed = tmp_path / "all.tar.gz", tmp_path / "list.csv"
    (folder / "large.png").write_bytes(os.urandom(100_000))
    with tarfile.open(cut_off, "w:gz") as archive:
        archive.add(folder, "images")
    cut_off.write_bytes(cut_off.read_bytes()[:50_000])
    listed.write_bytes(b"path\nimages/a.JPG\n" + b"images/b.png\n" * 10_000 + b"\xff\xfe\n")
    (tmp_path / "columns.csv").write_text("file,label\na.png,b\n")
    paths = [folder / "a.JPG", cut_off, listed, tmp_path / "columns.csv", folder / "b.png"]
    found = list(find_inputs(paths))
    errors = [(image.name, str(image.source)) for image in found if isinstance(image.source, InvalidImageError)]
    assert [name for name, _ in errors] == [str(path) for path in paths[1:4]]
    for (_, reason), expected in zip(errors, ("unreadable tar file", "utf-8", "no column 'path'"), strict=True):
        assert expected in reason
    assert found[-1].name == str(folder / "b.png")
    with pytest.raises(UsageError, match="utf-8"):
        find_images([listed])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
