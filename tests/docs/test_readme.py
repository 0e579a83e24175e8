from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def load_plot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plot", ROOT / "docs" / "figures" / "plot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_the_plot_shows_the_figures_of_the_readme() -> None:
    plot = load_plot()
    assert plot.PLOT.read_text(encoding="utf-8") == plot.draw(plot.read_figures(README))
    assert len(plot.read_figures(README)) == 3


def test_the_figures_of_the_readme_are_those_of_the_page_about_measuring() -> None:
    page = (ROOT / "docs" / "explanation" / "measuring.md").read_text(encoding="utf-8")
    for _, ours, reference, limit in load_plot().read_figures(README):
        for value in (ours, reference, limit):
            assert f"{value:,.15g}" in page
