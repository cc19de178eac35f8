"""A TCP proxy that can stop forwarding, as a server or a network that stalls."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class Proxy:
    """Forwards connections on a port of its own to `target`.

    `stall` keeps every connection open and forwards nothing; `go` forwards again, from where it
    stopped; `cut` closes every connection; `freeze_old` keeps those that there are open and forgets
    what they send from now on, as a network does that has dropped them, while new ones work.
    `damage` replaces bytes of what the server sends by as many others.
    """

    def __init__(self, target: tuple[str, int], damage: tuple[bytes, bytes] | None = None) -> None:
        self.accepted = 0
        self.damage = damage
        self._target = target
        self._going = threading.Event()
        self._going.set()
        self._sockets: list[socket.socket] = []
        self._frozen: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._going.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    @property
    def mongodb_uri(self) -> str:
        """The connection string of a MongoDB behind it."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def stall(self) -> None:
        """Forward nothing until `go`."""
        self._going.clear()

    def go(self) -> None:
        """Forward again."""
        self._going.set()

    def freeze_old(self) -> None:
        """Forget what the connections that there are send; new ones work."""
        self._frozen |= set(self._sockets)

    def cut(self) -> None:
        """Close every connection."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for way in ((near, far, None), (far, near, self.damage)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, damage: tuple[bytes, bytes] | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._going.wait()
                if source in self._frozen:
                    continue
                sink.sendall(data.replace(*damage) if damage else data)
            sink.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])
