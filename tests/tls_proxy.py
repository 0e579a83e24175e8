"""Encryption in front of a real Triton, as a load balancer does it: ends TLS and passes the bytes on."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates of one address; each is written with its key into a folder as PEM files."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self._address = ipaddress.ip_address(address)
        self.path, _ = self._write("authority", None)

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate, and its key."""
        return self._write(name, self._key)

    def _write(self, name: str, issuer_key: ec.EllipticCurvePrivateKey | None) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        if issuer_key is None:
            self._key = key
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer_key is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(self._address)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(issuer_key or key, hashes.SHA256())
        )
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


class TlsProxy:
    """Listens on a free port of loopback, ends TLS and forwards to another port; a context manager.

    Args:
        port: to forward to.
        authority: signs the certificate.
        mutual: the client must have a certificate of the same authority.
        pause: seconds before a connection is taken up, as of a far or busy server.
    """

    def __init__(self, port: int, authority: Authority, *, mutual: bool = False, pause: float = 0.0) -> None:
        self._target = port
        self._pause = pause
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.sign("server"))
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        if mutual:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(authority.path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._closed = False
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> TlsProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for open_socket in self._sockets:
                with contextlib.suppress(OSError):
                    # Not that of SSLSocket, which takes away what a thread at its handshake works with.
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for open_socket in self._sockets:
            open_socket.close()

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _keep(self, open_socket: socket.socket) -> None:
        """Have it closed at the end, which may be now."""
        with self._lock:
            self._sockets.append(open_socket)
            if self._closed:
                raise OSError("closed")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._start(self._serve, plain)

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            near = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            self._keep(near)
            time.sleep(self._pause)
            near.do_handshake()
            far = socket.create_connection(("127.0.0.1", self._target))
            self._keep(far)
            self._start(self._pump, near, far)
            self._pump(far, near)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while content := source.recv(65536):
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)
