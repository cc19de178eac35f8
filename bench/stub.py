"""A MongoDB that has one change stream, pre-encoded, and serves it at memory speed.

    python bench/stub.py --count 100000 --size-bytes 500

So that the client and nothing else is measured. The driver sees a replica set's primary: hello,
ping, aggregate with `$changeStream`, getMore, killCursors, endSessions. It prints its port.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import socketserver
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
from bson.int64 import Int64

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
from changes import BATCH_BYTES, OPERATION_TIME, POST_BATCH, Changes, token
from servers import wire
from stalls import Stalls

HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "setName": "stub",
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 25,
}
BUILD = {"version": "8.0.0", "versionArray": [8, 0, 0, 0]}
REFUSED = {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "no oplog to look at"}
DONE = {"ok": 1.0, "operationTime": OPERATION_TIME}


@dataclass(frozen=True)
class Stub:
    """One deployment; a cursor is the index of its next change."""

    changes: Changes
    awaits: bool = True
    """Whether an empty answer waits for `maxTimeMS` as a server's does, or comes at once."""
    stalls: Stalls = Stalls()  # noqa: RUF009 - frozen
    _cursors: dict[int, int] = field(default_factory=dict)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    def answer(self, command: dict[str, Any]) -> bytes | bytearray:
        """One BSON document."""
        name = next(iter(command))
        if name in {"aggregate", "getMore"}:
            self.stalls.suffer()
        if name == "aggregate":
            return bson.encode(self._open(command))
        if name == "getMore":
            return self._more(command)
        if name.lower() in {"hello", "ismaster"}:
            return bson.encode(HELLO | DONE)
        if name in {"find", "serverStatus"}:
            return bson.encode(REFUSED)
        if name.lower() == "buildinfo":
            return bson.encode(BUILD | DONE)
        return bson.encode(DONE)

    def _open(self, command: dict[str, Any]) -> dict[str, Any]:
        options = command["pipeline"][0]["$changeStream"]
        given = options.get("startAfter") or options.get("resumeAfter")
        first = self.changes.index_behind(given["_data"]) if given else 0
        cursor_id = next(self._ids)
        self._cursors[cursor_id] = first
        block = "00000000" if not given else given["_data"][2:10]
        behind = given or {"_data": token(block, 0, POST_BATCH)}
        cursor = {"id": Int64(cursor_id), "ns": "bench.changes", "firstBatch": []}
        return {"cursor": cursor | {"postBatchResumeToken": behind}} | DONE

    def _more(self, command: dict[str, Any]) -> bytearray:
        cursor_id = command["getMore"]
        first = self._cursors[cursor_id]
        if first >= self.changes.count and self.awaits:
            time.sleep(command.get("maxTimeMS", 1000) / 1000)
        answer, behind = self.changes.batch(first, command.get("batchSize"), cursor_id)
        self._cursors[cursor_id] = behind
        return answer


class Connection(socketserver.BaseRequestHandler):
    """One driver's connection, in a thread of its own."""

    server: Server

    def handle(self) -> None:
        """Answer until the driver closes."""
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while request := wire.receive(connection):
                self._answer(connection, request)
        except ConnectionError:
            return

    def _answer(self, connection: socket.socket, request: wire.Request) -> None:
        wire.send(connection, request, self.server.stub.answer(request.command))


class Server(socketserver.ThreadingTCPServer):
    """Listens for drivers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, stub: Stub) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.stub = stub


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size-bytes", type=int, required=True, help="of one change, as BSON")
    parser.add_argument("--batch-bytes", type=int, default=BATCH_BYTES)
    parser.add_argument("--empty-at-once", action="store_true")
    Stalls.add_arguments(parser)
    options = parser.parse_args()
    changes = Changes(options.count, options.size_bytes, options.batch_bytes)
    stub = Stub(changes, awaits=not options.empty_at_once, stalls=Stalls.of(options))
    with Server(stub) as server:
        print(f"stub listening on 127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
