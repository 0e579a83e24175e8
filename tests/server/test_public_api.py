from __future__ import annotations

import subprocess
import sys

import pytest

import tamiz_server


def test_all_public_names_are_sorted_and_can_be_imported() -> None:
    assert tamiz_server.__all__ == sorted(tamiz_server.__all__)
    assert dir(tamiz_server) == tamiz_server.__all__
    for name in tamiz_server.__all__:
        assert getattr(tamiz_server, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tamiz_server' has no attribute 'Trition'"):
        _ = tamiz_server.Trition


def test_importing_the_package_loads_none_of_its_modules() -> None:
    code = "import sys, tamiz_server; print([name for name in sys.modules if name.startswith('tamiz_server.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
