"""Writes a steady mix of changes, one after the other, and notes each that was acknowledged."""

from __future__ import annotations

import random
import time
import uuid
from typing import TYPE_CHECKING, Any

from demo_verdict import Write

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pymongo.collection import Collection

OPERATIONS = {"insert": 40, "update": 35, "replace": 15, "delete": 10}
# Fewer than this and only inserts are written, so that there is something to change.
DOCUMENTS_WANTED = 25


class Writer:
    """The only writer of its collection, so the order of its writes is the stream's."""

    def __init__(self, collection: Collection[dict[str, Any]], *, per_second: int) -> None:
        self._collection = collection
        self._per_second = per_second
        self._random = random.Random(1)
        # What an earlier writer left in the collection has other ids.
        self._mark = uuid.uuid4().hex[:6]
        self._versions: dict[str, int] = {}
        self._inserted = 0

    def run(self, note: Callable[[Write], None], stop: threading.Event) -> None:
        """Write until told to stop, at an even pace."""
        due = time.monotonic()
        while not stop.is_set():
            note(self.write_one())
            due = max(due + 1 / self._per_second, time.monotonic() - 1)
            stop.wait(max(0.0, due - time.monotonic()))

    def write_one(self) -> Write:
        """Do one write and wait for the server's word. Raises PyMongoError."""
        operation = self._choose()
        document = self._new() if operation == "insert" else self._existing()
        version = self._versions.get(document, 0) + 1
        getattr(self, f"_{operation}")(document, version)
        if operation == "delete":
            del self._versions[document]
            return Write(operation, document, None)
        self._versions[document] = version
        return Write(operation, document, version)

    def _choose(self) -> str:
        if len(self._versions) < DOCUMENTS_WANTED:
            return "insert"
        return self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]

    def _new(self) -> str:
        self._inserted += 1
        return f"order-{self._mark}-{self._inserted:05}"

    def _existing(self) -> str:
        return self._random.choice(list(self._versions))

    def _insert(self, document: str, version: int) -> None:
        self._collection.insert_one(_order(document, version))

    def _update(self, document: str, version: int) -> None:
        changes = {"$set": {"version": version, "status": "paid"}}
        _insist(self._collection.update_one({"_id": document}, changes).modified_count)

    def _replace(self, document: str, version: int) -> None:
        order = _order(document, version)
        _insist(self._collection.replace_one({"_id": document}, order).modified_count)

    def _delete(self, document: str, _version: int) -> None:
        _insist(self._collection.delete_one({"_id": document}).deleted_count)


def _order(document: str, version: int) -> dict[str, Any]:
    return {"_id": document, "version": version, "status": "new", "items": ["tide table", "mark"]}


def _insist(count: int) -> None:
    """A write that met nothing makes no change, and would be counted as lost."""
    if count != 1:
        raise RuntimeError("somebody else writes to the demo's collection")
