"""The connection of a command to the running server that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tamiz.options import make_tls, parse_headers

from ..control import Control, open_control


def connect(
    url: str | None,
    key: str | None,
    header: Sequence[str] | None,
    ca: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
) -> AbstractContextManager[Control | None]:
    """Connect to the server that the options of a command name, as `tamiz_server.control.open_control` does.

    Args:
        url: value of ``--url``; None connects to no server.
        key: value of ``--key``.
        header: values of ``--header``.
        ca: value of ``--ca``.
        certificate: value of ``--certificate``.
        certificate_key: value of ``--certificate-key``.

    Returns:
        a context manager with the connection; it connects when its block begins.

    Raises:
        UsageError: a header is malformed. When the block begins, also what `open_control` raises.
    """
    return open_control(url, key, tls=make_tls(ca, certificate, certificate_key), headers=parse_headers(header))
