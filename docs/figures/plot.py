"""Draw docs/figures/throughput.svg from the table of figures in README.md, so that the two cannot differ.

python docs/figures/plot.py
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PLOT = Path(__file__).with_name("throughput.svg")

WIDTH, LEFT, BAR, GAP = 820, 300, 22, 26
RIGHT = WIDTH - 130
STYLE = """
.card { fill: #ffffff; stroke: #d8dee4 } .text { fill: #10231f; font-size: 14px }
.small { fill: #4a5a56; font-size: 12.5px }
.title { fill: #10231f; font-size: 15px; font-weight: 600 } .Tamiz { fill: #0b6e5f } .reference { fill: #9fb3ad }
.limit { stroke: #c2570c; stroke-width: 2; stroke-dasharray: 5 4 } .limittext { fill: #c2570c; font-size: 12.5px }
@media (prefers-color-scheme: dark) {
.card { fill: #14191c; stroke: #2c363b } .text, .title { fill: #eef5f3 } .small { fill: #aebdb8 }
.Tamiz { fill: #4fc3ae } .reference { fill: #5b6f6a } .limit { stroke: #f5995b } .limittext { fill: #f5995b }
}
"""


def read_figures(text: str) -> list[tuple[str, float, float, float]]:
    """The rows of the table: what was measured, and images/s of Tamiz, of the reference, and of the limit."""
    rows = re.findall(r"^\| (.+?) \| ([\d.,]+) \| ([\d.,]+) \| ([\d.,]+) \|", text, re.MULTILINE)
    if not rows:
        raise SystemExit("README.md has no table of figures: name | Tamiz | reference | limit")
    return [(name, *(float(value.replace(",", "")) for value in values)) for name, *values in rows]


def draw(figures: list[tuple[str, float, float, float]]) -> str:
    """An SVG with two bars for each row, as long as its images/s ÷ those of the limit."""
    height = 74 + len(figures) * (2 * BAR + GAP) + 14
    scale = RIGHT - LEFT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif\">",
        f"<title>Throughput of Tamiz and of a reference script, beside the limit</title><style>{STYLE}</style>",
        f'<rect class="card" x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="12"/>',
        '<text class="title" x="24" y="32">Images per second, as a fraction of the limit of the same machine</text>',
        f'<text class="limittext" x="{RIGHT}" y="56" text-anchor="middle">limit</text>',
        f'<line class="limit" x1="{RIGHT}" y1="62" x2="{RIGHT}" y2="{height - 16}"/>',
    ]
    for row, (name, ours, reference, limit) in enumerate(figures):
        top = 74 + row * (2 * BAR + GAP)
        what, _, how = re.sub(r"[`*]|\[|\]\([^)]*\)", "", name).partition(": ")
        parts.append(f'<text class="text" x="24" y="{top + 18}">{escape(what)}</text>')
        parts.append(f'<text class="small" x="24" y="{top + 38}">{escape(how)}</text>')
        for place, (kind, value) in enumerate((("Tamiz", ours), ("reference", reference))):
            y, length = top + place * BAR, round(scale * value / limit)
            parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length}" height="{BAR - 4}" rx="3"/>')
            label = f"{kind} {value:,.0f}" if value >= 100 else f"{kind} {value:g}"
            parts.append(f'<text class="small" x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{label}</text>')
        parts.append(f'<text class="limittext" x="{RIGHT + 8}" y="{top + 26}">{limit:,g} images/s</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PLOT.write_text(draw(read_figures(README.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PLOT)
