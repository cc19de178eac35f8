"""A server's port: one thread a connection, all ended with the block."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

import bson

from servers import commands, wire
from servers.character import MONGOD, Character
from servers.faults import ConnectionClosed
from servers.scans import Client
from servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 0.02


class Connection(socketserver.BaseRequestHandler):
    """One driver's connection, in a thread of its own."""

    server: Listener

    def handle(self) -> None:
        """Answer until the driver closes, or a fault does."""
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ConnectionClosed):
            while request := wire.receive(connection):
                reply = commands.answer(self.server.serves, request.command, Client(connection))
                if request.is_answered:
                    wire.send(connection, request, bson.encode(reply))


class Listener(socketserver.ThreadingTCPServer):
    """Listens for drivers on a port that the system chooses."""

    daemon_threads = False  # closing waits for each
    request_queue_size = 128

    def __init__(self, character: Character, starts_at_s: float | None) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        address = f"127.0.0.1:{self.server_address[1]}"
        self.serves = Server(character, address, starts_at_s=starts_at_s)
        self._open: set[socket.socket] = set()

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Remember the connection, to end it with the block."""
        if isinstance(request, socket.socket):
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection that has ended."""
        if isinstance(request, socket.socket):
            self._open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop listening, end every connection and scan, and wait for the threads."""
        self.shutdown()
        self.serves.stop()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


@contextlib.contextmanager
def serve(character: Character = MONGOD, *, starts_at_s: float | None = None) -> Iterator[Server]:
    """A server of that character, for the length of the block; see `Oplog` for `starts_at_s`."""
    listener = Listener(character, starts_at_s)
    thread = threading.Thread(target=listener.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield listener.serves
    finally:
        listener.end()
        thread.join()
