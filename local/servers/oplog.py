"""An oplog in memory, and the collections that its entries have made.

An entry has an index, which never changes, and a time. Entries that are alike (no-ops, writes to a
namespace that nobody watches) are one stretch, however many: 60,000 of them take no time to write.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import bson
from bson.timestamp import Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable

Document = dict[str, Any]
Operation = Literal["noop", "insert", "update", "replace", "delete", "drop", "dropDatabase"]
ELSEWHERE = "elsewhere.entries"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was written; `key` is None in a stretch of `foreign`: each has its index as `_id`."""

    operation: Operation = "noop"
    namespace: str = ""
    collection: str = ""
    key: Any = None
    document: Document | None = None
    description: Document | None = None


NOTHING = Entry()


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` entries alike from index `first` on, their times one increment apart."""

    first: int
    count: int
    time: Timestamp
    written_s: float
    entry: Entry

    @property
    def end(self) -> int:
        """The index after its last entry."""
        return self.first + self.count

    def time_of(self, index: int) -> Timestamp:
        """The time of one of its entries."""
        return Timestamp(self.time.time, self.time.inc + index - self.first)


@dataclass
class Collection:
    """What a collection holds now, in the order of insertion."""

    name: str
    uuid: str
    documents: dict[bytes, Document] = field(default_factory=dict)


class Oplog:
    """Every write, in order, with MongoDB's times; safe to use from any thread.

    Namespaces are "database.collection". `changed` is notified at every write. Its clock
    is the machine's, or starts at `starts_at_s`, seconds since the epoch.
    """

    def __init__(
        self, shard_key: tuple[str, ...] = (), *, starts_at_s: float | None = None
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.collections: dict[str, Collection] = {}
        self.is_pruned = False
        self._shard_key = shard_key
        self._stretches: list[Stretch] = []
        self._ahead_s = 0.0 if starts_at_s is None else starts_at_s - time.time()
        self._write(NOTHING)  # as every oplog begins

    # ------------------------------------------------------------------------------- its clock

    def set_time(self, seconds: float) -> None:
        """Set the server's clock, seconds since the epoch; no entry is earlier than the last."""
        self._ahead_s = seconds - time.time()

    def advance(self, seconds: float) -> None:
        """Put the server's clock forward."""
        self._ahead_s += seconds

    def now_s(self) -> float:
        """The server's clock, seconds since the epoch."""
        return time.time() + self._ahead_s

    # -------------------------------------------------------------------------- what it is given

    def noop(self, count: int = 1) -> None:
        """Entries that are nobody's change."""
        self._write(NOTHING, count)

    def foreign(self, count: int, namespace: str = ELSEWHERE) -> None:
        """Inserts into another namespace, in one go; the collection itself stays empty."""
        self._write(Entry("insert", namespace, self.collection(namespace).uuid), count)

    def insert(self, namespace: str, *documents: Document) -> None:
        """Insert documents; one without `_id` gets an ObjectId."""
        for document in documents:
            if "_id" not in document:
                document["_id"] = bson.ObjectId()
            self._store("insert", namespace, document)

    def replace(self, namespace: str, document: Document) -> None:
        """Put `document` in the place of the one with its `_id`."""
        self._store("replace", namespace, document)

    def update(self, namespace: str, key: Any, changes: Document) -> bool:
        """Apply `$set`, `$unset` and `$inc` of top-level fields; whether there was such a one."""
        with self.changed:
            stored = self.find(namespace, key)
            if stored is None:
                return False
            updated = {**changes.get("$set", {})}
            for name, more in changes.get("$inc", {}).items():
                updated[name] = stored.get(name, 0) + more
            removed = [name for name in changes.get("$unset", {}) if name in stored]
            document = {name: stored[name] for name in stored if name not in removed} | updated
            description = {
                "updatedFields": updated,
                "removedFields": removed,
                "truncatedArrays": [],
            }
            self._store("update", namespace, document, description)
            return True

    def delete(self, namespace: str, key: Any) -> bool:
        """Delete the document with that `_id`; whether there was such a one."""
        with self.changed:
            stored = self.find(namespace, key)
            if stored is None:
                return False
            collection = self.collection(namespace)
            del collection.documents[_name(key)]
            self._write(Entry("delete", namespace, collection.uuid, self._key_of(stored)))
            return True

    def drop(self, namespace: str) -> bool:
        """Drop a collection; whether it was there."""
        with self.changed:
            collection = self.collections.pop(namespace, None)
            if collection is not None:
                self._write(Entry("drop", namespace, collection.uuid))
            return collection is not None

    def drop_database(self, database: str) -> None:
        """Drop every collection of a database, then the database."""
        with self.changed:
            for namespace in [name for name in self.collections if name.startswith(f"{database}.")]:
                self.drop(namespace)
            self._write(Entry("dropDatabase", database))

    def prune(self, to: Timestamp | None = None) -> None:
        """Forget the entries before the time `to`; without one, all but the last entry."""
        with self.changed:
            self.is_pruned = True
            last = self._stretches[-1]
            first = last.end - 1 if to is None else self.index_at(to)
            kept = [stretch for stretch in self._stretches if stretch.end > first]
            self._stretches = [_cut(kept[0], first), *kept[1:]] if kept else [last]
            self.changed.notify_all()

    # --------------------------------------------------------------------------- what it knows

    @property
    def first_time(self) -> Timestamp:
        """The time of the oldest entry that is left."""
        with self.changed:
            return self._stretches[0].time

    @property
    def last_time(self) -> Timestamp:
        """The operation time: that of the newest entry."""
        with self.changed:
            return self._stretches[-1].time_of(self._stretches[-1].end - 1)

    @property
    def end(self) -> int:
        """The index that the next entry will have."""
        with self.changed:
            return self._stretches[-1].end

    def end_before_s(self, written_s: float) -> int:
        """The index after the last entry that was written at that monotonic second or before."""
        with self.changed:
            for stretch in reversed(self._stretches):
                if stretch.written_s <= written_s:
                    return stretch.end
            return self._stretches[0].first

    def at(self, index: int) -> Stretch | None:
        """The stretch that holds an index, or the first one after it; None at the end."""
        with self.changed:
            place = bisect_right(self._stretches, index, key=lambda stretch: stretch.end)
            return self._stretches[place] if place < len(self._stretches) else None

    def index_at(self, when: Timestamp) -> int:
        """The index of the first entry at `when` or later."""
        with self.changed:
            place = bisect_right(self._stretches, when, key=lambda stretch: stretch.time) - 1
            if place < 0:
                return self._stretches[0].first
            found = self._stretches[place]
            if when.time > found.time.time:
                return found.end
            return min(found.end, found.first + when.inc - found.time.inc)

    def collection(self, namespace: str) -> Collection:
        """The collection of a name; made where there is none."""
        with self.changed:
            if namespace not in self.collections:
                self.collections[namespace] = Collection(namespace, str(uuid.uuid4()))
            return self.collections[namespace]

    def find(self, namespace: str, key: Any) -> Document | None:
        """The document with that `_id` as it is now."""
        with self.changed:
            collection = self.collections.get(namespace)
            return collection.documents.get(_name(key)) if collection else None

    def documents(self, namespace: str) -> Iterable[Document]:
        """What a collection holds, in the order of insertion."""
        with self.changed:
            collection = self.collections.get(namespace)
            return list(collection.documents.values()) if collection else []

    def _store(
        self,
        operation: Operation,
        namespace: str,
        document: Document,
        description: Document | None = None,
    ) -> None:
        with self.changed:
            collection = self.collection(namespace)
            collection.documents[_name(document["_id"])] = document
            key = self._key_of(document)
            self._write(
                Entry(operation, namespace, collection.uuid, key, dict(document), description)
            )

    def _key_of(self, document: Document) -> Document:
        """The document key: the shard key's fields stand before `_id`."""
        key = {name: document[name] for name in self._shard_key if name in document}
        return key | {"_id": document["_id"]}

    def _write(self, entry: Entry, count: int = 1) -> None:
        with self.changed:
            first, written_s = 0, time.monotonic()
            when = Timestamp(int(self.now_s()), 1)
            if self._stretches:
                first, last = self.end, self.last_time
                when = max(when, Timestamp(last.time, last.inc + 1))
            if count > 0:
                self._stretches.append(Stretch(first, count, when, written_s, entry))
                self.changed.notify_all()


def wall_time(when: Timestamp) -> datetime:
    """The wall clock's time of an entry: its whole second."""
    return datetime.fromtimestamp(when.time, UTC)


def _cut(stretch: Stretch, first: int) -> Stretch:
    """What is left of a stretch from index `first` on."""
    first = max(first, stretch.first)
    return Stretch(
        first,
        stretch.end - first,
        stretch.time_of(first),
        stretch.written_s,
        stretch.entry,
    )


def _name(key: Any) -> bytes:
    return bson.encode({"": key})
