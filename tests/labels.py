"""Labels of every kind that text may be, for tests of whatever shows or stores a label."""

from __future__ import annotations

HOSTILE_LABELS = {
    "dollar signs": "$100_$500",
    "an unfinished formula": r"$\frac{1$",
    "one dollar sign": "100 $",
    "backslash": "a\\b",
    "Chinese": "中文标签",
    "Arabic": "تفاح",
    "emoji": "🐱",
    "composed": "caf\u00e9",
    "HTML": "<b>&amp;\"'</b><script>alert(1)</script>",
    "rich markup": "[red]warning[/red]",
    "CSV": 'a,"b";c',
    "formula of a spreadsheet": "=1+1",
    "bar": "a|b",
    "line end": "two\nlines",
    "tab": "a\tb",
    "escape sequence": "\x1b[31mred\x1b[0m",
    "null": "a\x00b",
    "line separator": "a\u2028b",
    "right to left override": "gpj\u202ecat",
    "template": "{{ 7 * 7 }}{% raw %}",
    "percent": "100 %s %(x)s",
    "braces": "{0} {name}",
    "slash": "a/b\\..",
    "blank": " ",
    "long": "x" * 1000,
    "private use": "\ue000",
    "number": "007",
    "null word": "null",
}
"""A label by what is special about it."""
