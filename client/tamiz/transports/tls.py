"""Certificates for encrypted connections."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ..arguments import check_choice, check_path
from ..errors import UsageError, os_reason

_FILES = ("ca", "certificate", "key")


@dataclass(frozen=True)
class Tls:
    """Certificates for ``grpcs://`` and ``https://``, each the path of a PEM file.

    Attributes:
        ca: certificate of the authority that signed the server's certificate; None trusts the authorities that gRPC,
            or for ``https`` the operating system, trusts.
        certificate: the client's own certificate, for mutual TLS.
        key: the private key of the client's certificate, for mutual TLS.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        for name in _FILES:
            path = getattr(self, name)
            if path is not None:
                # What is given instead of a path may be the content of the file, and that of a key is secret.
                check_path(f"tls.{name}", path, "the path of a PEM file", secret=True)
                if "-----BEGIN" in str(path):
                    raise UsageError(f"tls.{name}: the content of a file; give its path")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("tls: a client certificate and its key belong together; give both or neither")

    def read(self, name: str) -> bytes | None:
        """The content of the file in the attribute of that name; None where the attribute is None.

        Raises:
            UsageError: the file cannot be read.
        """
        check_choice("name", name, _FILES)
        path = getattr(self, name)
        try:
            return None if path is None else Path(path).read_bytes()
        except OSError as exc:
            raise UsageError(f"tls.{name}: {path}: {os_reason(exc)}") from exc

    def make_context(self) -> ssl.SSLContext:
        """The SSL context for ``https``. For ``grpcs`` it serves as a check: gRPC reports a bad file only on stderr.

        Raises:
            UsageError: a file cannot be read or is not PEM, or the key does not belong to the certificate.
        """
        for name in _FILES:
            self.read(name)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                # Without a password, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as exc:
            raise UsageError(f"tls: {exc.reason or exc}; give PEM files, the key without a password") from exc
        return context
