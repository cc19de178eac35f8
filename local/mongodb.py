"""The embedded MongoDB: SecantusDB, spoken to over its socket by the real driver.

It is a process of its own and nothing of it is imported (it is GPL-2.0, we are Apache-2.0): for
development, tests and the demo only.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import Process

LISTENING = r"secantus listening on \S+:(\d+)"
IN_MEMORY = ":memory:"


@dataclass(frozen=True)
class Options:
    """How the server runs. The oplog's two bounds decide how soon a resume token ages out."""

    host: str = "127.0.0.1"
    port: int = 0
    storage: Path | None = None
    """A folder that is kept; without one the data goes with the server."""
    oplog_max_entries: int = 1_000_000
    oplog_retention_s: int = 3600
    standalone: bool = False
    """Not a replica set: `watch()` is refused, as by a standalone mongod."""
    auth: bool = False
    """Ask for a user: create one first, on a server without it and the same `storage`."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_authority: Path | None = None
    """Refuse a client without a certificate by this authority."""

    def command(self) -> list[str]:
        """The server's command line."""
        return [
            str(Path(sys.executable).with_name("secantusd-py")),
            "--enable-test-commands",
            *("--host", self.host, "--port", str(self.port)),
            *("--storage-path", str(self.storage or IN_MEMORY)),
            *("--oplog-max-entries", str(self.oplog_max_entries)),
            *("--oplog-retention-seconds", str(self.oplog_retention_s)),
            *(["--standalone"] if self.standalone else []),
            *(["--auth"] if self.auth else []),
            *(["--tls-cert-file", str(self.tls_certificate)] if self.tls_certificate else []),
            *(["--tls-key-file", str(self.tls_key)] if self.tls_key else []),
            *self._client_authority(),
        ]

    def _client_authority(self) -> list[str]:
        if self.tls_client_authority is None:
            return []
        return ["--tls-ca-file", str(self.tls_client_authority), "--tls-require-client-cert"]


@dataclass(frozen=True)
class Server:
    """A running server and its address."""

    host: str
    port: int
    process: Process = field(repr=False)

    @property
    def uri(self) -> str:
        """The connection string, without user or TLS options."""
        return f"mongodb://{self.host}:{self.port}/?directConnection=true"


@contextmanager
def serve(options: Options = Options()) -> Iterator[Server]:
    """Run a server for the length of the block."""
    process = processes.start("mongodb", options.command())
    try:
        port = int(process.wait_for(LISTENING)[1])
        yield Server(options.host, port, process)
    finally:
        process.stop()


@contextmanager
def given_or_embedded(options: Options = Options()) -> Iterator[str]:
    """The connection string of MONGODB_URI, a real replica set, or else of an embedded server."""
    if uri := os.environ.get("MONGODB_URI"):
        yield uri
        return
    with serve(options) as server:
        yield server.uri
