"""JSON text: the one way in which Tamiz writes JSON, which every parser reads.

JSON (RFC 8259, section 6) has no NaN and no infinity, though Python writes them. A figure that is one of these has no
value, such as the average precision of a label that no image has. It is written as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(document: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The text of a JSON document.

    Args:
        document: the document, of dictionaries, lists, tuples, strings, numbers and None. Numbers that are NaN or
            infinite become null.
        indent: number of spaces by which each level is indented; None writes one line.
        ensure_ascii: whether characters outside ASCII are escaped.
    """
    return json.dumps(_without_nan(document), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
