from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tamiz import InvalidImageError, Preprocessing, prepare
from tamiz.preprocessing import decode

RAMP = np.stack(
    [
        np.add.outer(np.arange(60) * 4, np.zeros(80)),
        np.add.outer(np.zeros(60), np.arange(80) * 3),
        np.add.outer(np.arange(60), np.arange(80)),
    ],
    axis=2,
).astype(np.uint8)
"""RGB, 60×80: red increases downwards, green to the right."""


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def noise() -> np.ndarray:
    """RGB, 97×61, the same on every machine: every pixel differs from its neighbours."""
    return ((np.arange(97 * 61 * 3, dtype=np.uint64) * 2654435761 >> 13) % 256).astype(np.uint8).reshape(97, 61, 3)


# Revision 1. A change of any of these is a new revision, never a new hash.
GOLDEN = {
    ("RGB", "squash", "linear"): "c22702ccd49d1592",
    ("RGB", "squash", "area"): "6ec98ec058c9f517",
    ("RGB", "crop", "linear"): "5d73b1467069cc1b",
    ("RGB", "crop", "area"): "4ebea426373ce3d5",
    ("RGB", "pad", "linear"): "19d2e617357721df",
    ("RGB", "pad", "area"): "37850bae4d66dada",
    ("L", "squash", "linear"): "940201ae3267e7ed",
    ("L", "squash", "area"): "0b681799ea281396",
    ("L", "crop", "linear"): "e0fed3b1585ea700",
    ("L", "crop", "area"): "c59e34494dab2dec",
    ("L", "pad", "linear"): "3cd903fd9aebfe60",
    ("L", "pad", "area"): "c342182617620df1",
}


@pytest.mark.parametrize(("colour", "resize", "interpolation"), GOLDEN)
def test_revision_1_gives_the_same_pixels_on_every_machine(colour: str, resize: str, interpolation: str) -> None:
    settings = Preprocessing(
        revision=1,
        height=32,
        width=24,
        colour=colour,
        resize=resize,
        crop_fraction=0.875 if resize == "crop" else 1.0,
        interpolation=interpolation,
    )
    pixels = prepare(png(cv2.cvtColor(noise(), cv2.COLOR_RGB2BGR)), settings)
    assert pixels.shape == settings.shape
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == GOLDEN[colour, resize, interpolation]


def photo(height: int, width: int) -> bytes:
    """A JPEG of slow waves of three colours, in whole numbers, so that it is the same on every machine."""
    rows, columns = np.mgrid[0:height, 0:width] * 1000 // max(height, width)
    waves = [np.abs((rows * down + columns * right) % 1020 - 510) // 2 for down, right in ((2, 1), (1, 3), (3, 0))]
    return cv2.imencode(".jpg", np.stack(waves, axis=2).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


# Revision 2, of JPEG files of these sizes (height, width) for a model of 32×24.
GOLDEN_2 = {
    ("RGB", "squash", (260, 200)): "7b68f84acc8c085a",
    ("RGB", "crop", (260, 200)): "6858551cab5151d2",
    ("RGB", "pad", (260, 200)): "1b26270bf09aa2f5",
    ("L", "squash", (260, 200)): "0ae5b7a82a056102",
    ("RGB", "squash", (130, 100)): "84947ea270f843e3",
    ("RGB", "squash", (66, 66)): "317b897b809e46b6",
}


@pytest.mark.parametrize(("colour", "resize", "size"), GOLDEN_2)
def test_revision_2_gives_the_same_pixels_on_every_machine(colour: str, resize: str, size: tuple[int, int]) -> None:
    settings = Preprocessing(revision=2, height=32, width=24, colour=colour, resize=resize)
    pixels = prepare(photo(*size), settings)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == GOLDEN_2[colour, resize, size]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(40, 40), (480, 640), (640, 480), (1000, 300), (2000, 2000)])
def test_revision_2_gives_nearly_the_pixels_of_revision_1(size: tuple[int, int], resize: str) -> None:
    first, second = (
        prepare(photo(*size), Preprocessing(revision=revision, height=64, width=64, resize=resize)).astype(int)
        for revision in (1, 2)
    )
    assert np.abs(first - second).mean() < 2


@pytest.mark.parametrize(
    ("size", "resize", "reduction"),
    [
        ((127, 400), "squash", 1),
        ((128, 400), "squash", 2),
        ((400, 128), "squash", 2),
        ((1024, 512), "squash", 8),
        ((511, 511), "squash", 4),
        ((64, 1000), "pad", 8),
        ((512, 1000), "crop", 8),
        ((128, 1000), "crop", 2),
    ],
)
def test_a_large_jpeg_is_decoded_at_the_smallest_sufficient_size(
    size: tuple[int, int], resize: str, reduction: int
) -> None:
    settings = Preprocessing(height=64, width=64, resize=resize)
    decoded = decode(photo(*size), "RGB", enough_for=settings)
    assert decoded.shape[:2] == tuple(-(-side // reduction) for side in size)
    for unchanged in (decode(photo(*size), "RGB"), decode(png(np.zeros(size, np.uint8)), "L", enough_for=settings)):
        assert unchanged.shape[:2] == size


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("colour", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (224, 224), (7, 5)])
def test_an_image_of_any_size_becomes_contiguous_uint8_of_the_model_shape(
    size: tuple[int, int], colour: str, resize: str
) -> None:
    settings = Preprocessing(height=224, width=200, colour=colour, resize=resize)
    pixels = prepare(np.full((*size, 3), 7, np.uint8), settings)
    assert pixels.shape == settings.shape
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_path_bytes_and_pixels_of_one_image_give_the_same_input(tmp_path: Path) -> None:
    settings = Preprocessing(height=30, width=30)
    content = png(cv2.cvtColor(RAMP, cv2.COLOR_RGB2BGR))
    path = tmp_path / "ramp.png"
    path.write_bytes(content)
    expected = prepare(RAMP, settings)
    for source in (content, path, str(path)):
        np.testing.assert_array_equal(prepare(source, settings), expected)


def test_an_image_of_the_right_size_is_not_changed() -> None:
    np.testing.assert_array_equal(prepare(RAMP, Preprocessing(height=60, width=80)), RAMP)


def test_crop_takes_the_centre() -> None:
    pixels = prepare(RAMP, Preprocessing(height=30, width=30, resize="crop", crop_fraction=0.5))
    np.testing.assert_array_equal(pixels, RAMP[15:45, 25:55])


def test_pad_keeps_the_whole_image_between_black_bars() -> None:
    pixels = prepare(np.full((20, 40, 3), 200, np.uint8), Preprocessing(height=40, width=40, resize="pad"))
    assert (pixels[10:30] == 200).all()
    assert not pixels[:10].any()
    assert not pixels[30:].any()


def test_area_averages_pixels_that_linear_skips() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    area = prepare(stripes, Preprocessing(height=8, width=8, interpolation="area"))
    linear = prepare(stripes, Preprocessing(height=8, width=8, interpolation="linear"))
    assert set(np.unique(area)) == {32}
    assert set(np.unique(linear)) == {0}


UNDO = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""For each EXIF orientation, Pillow's transposition from the upright image to the stored one."""


def stored(upright: Image.Image, orientation: int, suffix: str) -> bytes:
    """A file whose image is rotated so that a viewer that applies the orientation shows it upright."""
    rotated = upright.transpose(Image.Transpose(UNDO[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    content = io.BytesIO()
    rotated.save(content, suffix, exif=exif, **options)
    return content.getvalue()


@pytest.mark.parametrize("colour", ["RGB", "L"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, suffix: str, mode: str, colour: str) -> None:
    if (suffix, mode) == ("jpeg", "RGBA"):
        return
    decoded = decode(stored(Image.fromarray(RAMP).convert(mode), orientation, suffix), colour)
    expected = RAMP if colour == "RGB" else cv2.cvtColor(RAMP, cv2.COLOR_RGB2GRAY)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() < 16


@pytest.mark.parametrize(("revision", "size"), [(1, (80, 60)), (2, (80, 60)), (3, (60, 80))])
def test_webp_files_are_turned_since_revision_3(revision: int, size: tuple[int, int]) -> None:
    content = stored(Image.fromarray(RAMP), 6, "webp")
    assert decode(content, "RGB", revision=revision).shape[:2] == size


TRANSPARENT = np.zeros((2, 3, 4), np.uint8)
TRANSPARENT[..., 0] = 200
TRANSPARENT[..., 3] = [0, 128, 255]
"""RGBA: red, from transparent to opaque."""
ON_WHITE = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]


def encoded(mode: str, suffix: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(TRANSPARENT).convert(mode).save(content, suffix, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded("RGBA", "png"), id="PNG"),
        pytest.param(encoded("RGBA", "webp", lossless=True, exact=True), id="WebP"),
        pytest.param(encoded("RGBA", "tiff"), id="TIFF"),
        pytest.param(
            cv2.imencode(".png", cv2.cvtColor(TRANSPARENT, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257)[1].tobytes(),
            id="PNG of 16 bits",
        ),
    ],
)
def test_transparent_images_are_shown_on_white(content: bytes) -> None:
    assert np.abs(decode(content, "RGB")[0].astype(int) - ON_WHITE).max() <= 1
    grey = decode(content, "L")[0].astype(int)
    assert np.abs(grey - cv2.cvtColor(np.uint8([ON_WHITE]), cv2.COLOR_RGB2GRAY)[0]).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_transparent_grey_and_palette_images_are_shown_on_white(mode: str) -> None:
    image = Image.fromarray(TRANSPARENT)
    content = io.BytesIO()
    (image.convert("LA") if mode == "LA" else image.quantize(4)).save(content, "png")
    assert decode(content.getvalue(), "RGB")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("revision", "digest"), [(1, "c22702ccd49d1592"), (2, "c22702ccd49d1592"), (3, "2a6b81165c95e934")]
)
def test_each_revision_gives_the_same_pixels_of_a_transparent_image_on_every_machine(
    revision: int, digest: str
) -> None:
    ramp = np.dstack([noise(), noise()[..., 0]])
    settings = Preprocessing(revision=revision, height=32, width=24)
    pixels = prepare(png(cv2.cvtColor(ramp, cv2.COLOR_RGBA2BGRA)), settings)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
        ("1", "png"),
        ("RGB", "webp"),
        ("L", "tiff"),
    ],
)
def test_every_colour_mode_becomes_eight_bits_rgb_and_grey(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(path)
    for colour, shape in (("RGB", (16, 16, 3)), ("L", (16, 16))):
        pixels = decode(path, colour)
        assert pixels.shape == shape
        assert pixels.dtype == np.uint8
        assert pixels.min() > 250


def test_sixteen_bits_become_eight() -> None:
    pixels = decode(png(np.full((4, 4), 0x8000, np.uint16)), "L")
    assert np.unique(pixels).tolist() == [0x80]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_grey_model_gets_the_same_input_from_a_file_and_from_its_pixels(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(noise()).save(path)
    np.testing.assert_array_equal(decode(path, "L"), decode(decode(path, "RGB"), "L"))


def test_grey_pixels_for_an_rgb_model_have_three_equal_channels() -> None:
    pixels = decode(RAMP[..., 0], "RGB")
    np.testing.assert_array_equal(pixels, np.repeat(RAMP[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an image", id="text"),
        pytest.param(png(RAMP)[:60], id="truncated"),
        pytest.param(png(RAMP)[:-20], id="PNG without its end"),
        pytest.param(photo(40, 40)[:-100], id="JPEG without its end"),
        pytest.param(b"\xff\xd8\xff\xe0" + b"\0" * 50, id="JPEG signature only"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_an_invalid_image_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InvalidImageError, match="broken.png") as caught:
        prepare(path, Preprocessing(height=8, width=8))
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(InvalidImageError, match=f"{name}: not a regular file"):
            prepare(tmp_path / name, Preprocessing(height=8, width=8))


def test_a_missing_file_and_a_folder_are_invalid_images(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidImageError, match=reason):
            prepare(path, Preprocessing(height=8, width=8))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_pixels_of_another_shape_or_type_are_rejected(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidImageError, match=r"uint8 \[height, width, 3\]"):
        prepare(pixels, Preprocessing(height=8, width=8))
