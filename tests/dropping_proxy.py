"""A TCP proxy that forgets its connections without closing them, as load balancers and firewalls do."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class DroppingProxy:
    """Listens on a free port of loopback and forwards to another port; a context manager.

    Args:
        port: to forward to.

    Attributes:
        port: to connect to.
        accepted: number of connections so far.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._dropped: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def drop(self) -> None:
        """Pass nothing on any more over the connections that exist; new ones work."""
        self._dropped.update(self._sockets)

    def __enter__(self) -> DroppingProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for open_socket in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for open_socket in [self._listener, *self._sockets]:
            open_socket.close()

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self.accepted += 1
                self._sockets += [near, far]
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if source not in self._dropped:
                    target.sendall(content)
            if source not in self._dropped:
                target.shutdown(socket.SHUT_WR)
