"""The scans that are under way, and those that their clients have left behind.

A scan is left behind where its client has disconnected and no killCursors has ended it: it goes on
for nobody, and they pile up.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servers.errors import CURSOR_KILLED, MAX_TIME_EXPIRED, CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE_S = 0.05  # how long a scan sleeps before it looks whether it was ended
LEAST_S = 0.0005


@dataclass(frozen=True)
class Client:
    """Who a command is done for."""

    connection: socket.socket

    @property
    def is_gone(self) -> bool:
        """Whether it has closed its end."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Scan:
    """One command's walk along the oplog, or its wait at the end.

    `limit_s` is the monotonic second at which the command fails; `ends_with_client` lets a
    disconnect end it.
    """

    def __init__(
        self, client: Client, *, limit_s: float | None = None, ends_with_client: bool = False
    ) -> None:
        self.client = client
        self.ended = threading.Event()
        self.code = CURSOR_KILLED
        self.resumable = False
        self._limit_s = limit_s
        self._ends_with_client = ends_with_client

    def end(self, code: int = CURSOR_KILLED, *, resumable: bool = False) -> None:
        """Let it fail with `code` at its next look."""
        self.code, self.resumable = code, resumable
        self.ended.set()

    def sleep_until(self, until_s: float) -> None:
        """Wait for a monotonic second. Raises CommandError where the scan is ended."""
        self.check()
        while (left_s := until_s - time.monotonic()) > LEAST_S:
            self.ended.wait(min(left_s, SLICE_S))
            self.check()

    def check(self) -> None:
        """Raise CommandError where it was ended, or its time is up, or its client is gone."""
        if self.ended.is_set():
            raise CommandError(self.code, "operation was interrupted", resumable=self.resumable)
        if self._limit_s is not None and time.monotonic() > self._limit_s:
            raise CommandError(MAX_TIME_EXPIRED, "operation exceeded time limit")
        if self._ends_with_client and self.client.is_gone:
            raise CommandError(CURSOR_KILLED, "client disconnected")


class Scans:
    """All scans of a server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: list[Scan] = []
        self._left_behind = 0

    @contextmanager
    def under_way(self, scan: Scan) -> Iterator[Scan]:
        """Count `scan` for the length of the block."""
        with self._lock:
            self._under_way.append(scan)
        try:
            yield scan
        finally:
            with self._lock:
                self._under_way.remove(scan)
                self._left_behind += _is_left_behind(scan)

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    @property
    def left_behind(self) -> int:
        """How many went on, or still go on, without a client."""
        with self._lock:
            return self._left_behind + sum(map(_is_left_behind, self._under_way))

    def end_all(self, code: int, *, resumable: bool = False) -> None:
        """End every scan."""
        with self._lock:
            for scan in self._under_way:
                scan.end(code, resumable=resumable)


def _is_left_behind(scan: Scan) -> bool:
    return not scan.ended.is_set() and scan.client.is_gone
