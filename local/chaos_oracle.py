"""A plain `watch()` of the driver's beside Tidemark: what a reader without faults would have seen.

It reads the whole database with one cursor, is never killed or frozen, and stores nothing. Where
the server refuses it, as it does with everybody while a failpoint is armed, it opens again at its
token.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from demo_verdict import Write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.change_stream import ChangeStream
    from pymongo.database import Database

AWAIT_MS = 200
PAUSE_S = 0.05


@dataclass
class Oracle:
    """The changes of each collection, in the order in which `watch()` gave them."""

    database: Database[dict[str, Any]]
    seen: dict[str, list[Write]] = field(default_factory=lambda: defaultdict(list))
    restarts: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    """It has a token: from here on nothing can escape it."""
    _token: Mapping[str, Any] | None = None

    @property
    def changes(self) -> int:
        """How many it has seen so far."""
        return sum(map(len, self.seen.values()))

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop."""
        while not stop.is_set():
            try:
                self._watch(stop)
            except PyMongoError:
                self.restarts += 1
                stop.wait(PAUSE_S)

    def _watch(self, stop: threading.Event) -> None:
        watch = self.database.watch(resume_after=self._token, max_await_time_ms=AWAIT_MS)
        with watch as stream:
            while not stop.is_set():
                self._read(stream)

    def _read(self, stream: ChangeStream[dict[str, Any]]) -> None:
        """One change, or an empty answer; the token moves with either."""
        change = stream.try_next()
        if change is not None:
            self.seen[change["ns"]["coll"]].append(write_of(change))
        self._token = stream.resume_token
        if self._token is not None:
            self.begun.set()


def write_of(change: Mapping[str, Any]) -> Write:
    """The write that made this change, by its document and the version that it gave it."""
    described = change.get("updateDescription", {}).get("updatedFields")
    wrote = described or change.get("fullDocument") or {}
    return Write(change["operationType"], change["documentKey"]["_id"], wrote.get("version"))
