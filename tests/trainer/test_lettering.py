"""Text in plots: drawn as it is, with the fonts that have its characters."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from labels import HOSTILE_LABELS
from matplotlib.figure import Figure

from tamiz_train.lettering import drawable, set_lettering


def write_font(path: Path, family: str, characters: str) -> str:
    """A font in which each of the characters is a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"u{ord(character):X}" for character in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): f"u{ord(character):X}" for character in characters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), **dict.fromkeys(names[1:], pen.glyph())})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def draw(text: str) -> np.ndarray:
    """The pixels of a figure with a text; a missing glyph would be a warning, which is an error in tests."""
    figure = Figure(figsize=(4, 1))
    figure.text(0.05, 0.3, text, fontsize=20)
    set_lettering(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("label", HOSTILE_LABELS.values(), ids=HOSTILE_LABELS.keys())
def test_any_label_is_drawn(label: str) -> None:
    (text,) = drawable([label])
    assert len(text) <= 24
    assert text.isprintable()
    pixels = draw(text)
    assert label.isspace() or pixels.min() < 128


def test_dollar_signs_are_drawn_as_they_are() -> None:
    assert drawable(["$100_$500"]) == ["$100_$500"]
    formula = draw("$x^2$")
    assert not np.array_equal(formula, draw("x^2"))
    assert (formula < 128).sum() > (draw("x^2") < 128).sum()


def test_characters_that_the_own_font_lacks_are_drawn_with_another_installed_font(tmp_path: Path) -> None:
    font = write_font(tmp_path / "squares-regular.ttf", "Tamiz Squares", "㐀㐁")
    assert drawable(["a㐀㐁㐂"], fonts=[font]) == [r"a㐀㐁\u3402"]
    assert (draw("㐀㐁") < 128).sum() > 300


def test_a_file_that_is_no_font_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "regular.ttf").write_bytes(b"damaged")
    font = write_font(tmp_path / "zz.ttf", "Tamiz Others", "㐃")
    assert drawable(["㐃"], fonts=[str(tmp_path / "regular.ttf"), str(tmp_path / "none.ttf"), font]) == ["㐃"]


def test_characters_that_no_font_has_are_written_as_code_points() -> None:
    assert drawable(["㐄", "\x1b[0m", "a\nb", "\udcff", "x\u202ey"], fonts=[]) == [
        r"\u3404",
        r"\x1b[0m",
        r"a\nb",
        r"\udcff",
        r"x\u202ey",
    ]


def test_a_long_text_is_cut_at_a_whole_character() -> None:
    assert drawable(["x" * 1000, "x" * 24, "\x00" * 9], fonts=[]) == ["x" * 23 + "…", "x" * 24, r"\x00" * 5 + "…"]
