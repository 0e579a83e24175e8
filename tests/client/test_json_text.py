from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tamiz.json_text import to_json


@pytest.mark.parametrize(
    ("document", "text"),
    [
        pytest.param(math.nan, "null", id="NaN"),
        pytest.param({"map": math.nan, "auc": 0.5}, '{"map": null, "auc": 0.5}', id="in an object"),
        pytest.param([{"rates": (math.inf, -math.inf, 1)}], '[{"rates": [null, null, 1]}]', id="in nested arrays"),
        pytest.param({"map": np.float64("nan")}, '{"map": null}', id="of NumPy"),
        pytest.param(Counter(hidden=2), '{"hidden": 2}', id="counter"),
        pytest.param({"label": "NaN", "run": None}, '{"label": "NaN", "run": null}', id="text"),
    ],
)
def test_a_number_that_is_not_finite_is_written_as_null(document: Any, text: str) -> None:
    assert to_json(document) == text


def test_text_outside_ascii_is_escaped_unless_it_is_wanted() -> None:
    assert to_json("größer") == r'"gr\u00f6\u00dfer"'
    assert to_json("größer", ensure_ascii=False) == '"größer"'
    assert json.loads(to_json({"label": "größer"}, indent=2)) == {"label": "größer"}
