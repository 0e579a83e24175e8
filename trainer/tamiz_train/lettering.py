"""Lettering: any text, such as a label in any script, drawn in a plot as it is.

Characters that matplotlib's own font does not have are drawn with the fonts that are installed on this machine; those
that none of them has are written as code points, as in Python.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

MAX_LENGTH = 24
"""Largest length of a text in a plot, in columns; the rest of a longer one is cut off."""

_OWN_FAMILY = "DejaVu Sans"
"""Font family that matplotlib brings along."""

_families: dict[str, str | None] = {}
"""The family of the font that draws a character; None if no font has it."""


def drawable(texts: Iterable[str], length: int = MAX_LENGTH, *, fonts: Sequence[str] | None = None) -> list[str]:
    """Make texts drawable: escape what no font can draw, and shorten.

    Args:
        texts: the texts. Line ends and other control characters are escaped too.
        length: the largest length of each result, in columns.
        fonts: paths of the fonts that may be used. Default: those installed on this machine.
    """
    cut = [text[: length + 1] for text in texts]
    _find_families(set("".join(cut)), fonts)
    return [_fit([_escape(character) for character in text], length) for text in cut]


def set_lettering(figure: Figure) -> None:
    """Draw all texts of a figure as they are, dollar signs included, with fonts that have their characters."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    used = {_families.get(character) for text in texts for character in text.get_text()}
    families = [_OWN_FAMILY, *sorted(family for family in used if family not in (None, _OWN_FAMILY))]
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(families)


def _find_families(characters: set[str], fonts: Sequence[str] | None) -> None:
    """Find a font family for each character, and remember it."""
    wanted = {character for character in characters - _families.keys() if _is_visible(character)}
    own = FT2Font(findfont(_OWN_FAMILY))
    for character in wanted:
        _families[character] = _OWN_FAMILY if own.get_char_index(ord(character)) else None
    missing = {character for character in wanted if _families[character] is None}
    if not missing:
        return
    paths = findSystemFonts() if fonts is None else fonts
    # Regular fonts first: of a family, matplotlib draws the one of regular weight.
    for path in sorted(paths, key=lambda path: ("regular" not in path.lower(), path)):
        if not missing:
            return
        found = _drawn_by(path, missing)
        if found and (family := _register(path)):
            _families.update(dict.fromkeys(found, family))
            missing -= found


def _drawn_by(path: str, characters: set[str]) -> set[str]:
    """Those of the characters that a font file can draw."""
    try:
        font = FT2Font(path)
        found = {character for character in characters if font.get_char_index(ord(character))}
        if found:
            # Fails for fonts of coloured bitmaps, such as those of emoji.
            font.set_size(10, 100)
            font.load_char(ord(min(found)))
    except (OSError, RuntimeError, ValueError):
        return set()
    return found


def _register(path: str) -> str | None:
    """The family of a font, by which matplotlib then draws with it; None if it would draw with another font."""
    family = FontProperties(fname=path).get_name()
    # Also a font that was installed after matplotlib listed the fonts of this machine.
    if path not in {entry.fname for entry in fontManager.ttflist}:
        fontManager.addfont(path)
    return family if findfont(FontProperties(family=[family])) == path else None


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _escape(character: str) -> str:
    if _families.get(character) is not None:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _fit(parts: Sequence[str], length: int) -> str:
    """Join characters, some of them escaped, up to a length; never a part of an escaped character."""
    if _width(parts) <= length:
        return "".join(parts)
    kept: list[str] = []
    for part in parts:
        if _width([*kept, part]) >= length:
            break
        kept.append(part)
    return "".join(kept) + "…"


def _width(parts: Iterable[str]) -> int:
    """Width in columns; Chinese, Japanese and Korean characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for part in parts for character in part)
