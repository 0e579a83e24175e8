from __future__ import annotations

import pytest

from tamiz import Tls, UsageError


def test_a_client_certificate_without_its_key_is_rejected() -> None:
    with pytest.raises(UsageError, match="belong together"):
        Tls(certificate="a.pem")


def test_certificates_must_be_paths() -> None:
    with pytest.raises(UsageError, match="tls.ca: a value of type bytes; give the path"):
        Tls(ca=b"ca.pem")
