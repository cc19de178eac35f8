"""From an oplog's entry to what a change stream shows of it.

Source: the MongoDB manual, "Change Events"; for what invalidates which stream, "Invalidate Event".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servers.oplog import NOTHING, wall_time
from servers.tokens import Place, Token

if TYPE_CHECKING:
    from bson.timestamp import Timestamp

    from servers.character import Character
    from servers.oplog import Entry, Oplog, Stretch
    from servers.tokens import Form

Event = dict[str, Any]
INTERNAL = ("admin", "local", "config")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a stream watches: a collection, a database, or everything where both are None."""

    database: str | None
    collection: str | None

    def holds(self, entry: Entry) -> bool:
        """Whether a stream of this scope has an event for an entry."""
        if entry is NOTHING:
            return False
        database, _, collection = entry.namespace.partition(".")
        if self.database is None:
            return database not in INTERNAL
        return database == self.database and self.collection in (None, collection)

    def invalidates(self, entry: Entry) -> bool:
        """Whether the entry ends a stream of this scope."""
        if self.collection is not None:
            return entry.operation == "drop"
        return self.database is not None and entry.operation == "dropDatabase"


@dataclass(frozen=True)
class View:
    """How one stream shows entries."""

    oplog: Oplog
    scope: Scope
    form: Form
    character: Character
    looks_up: bool

    def events(self, stretch: Stretch, index: int) -> list[Event]:
        """The events of one entry that is in scope: with an invalidate behind what ends it."""
        entry, when = stretch.entry, stretch.time_of(index)
        shown = [self._event(entry, when, index)]
        if self.scope.invalidates(entry):
            shown.append(self.invalidate(entry, when))
        return shown

    def invalidate(self, entry: Entry, when: Timestamp) -> Event:
        """The event that ends the stream."""
        return self._head("invalidate", Place(when, "invalidate", entry.collection))

    def _head(self, operation: str, place: Place) -> Event:
        head: Event = {"_id": self.form.token(place), "operationType": operation}
        head["clusterTime"] = place.time
        if self.character.has_wall_time:
            head["wallTime"] = wall_time(place.time)
        return head

    def _event(self, entry: Entry, when: Timestamp, index: int) -> Event:
        event = self._head(entry.operation, Place(when, "event", entry.collection))
        key = {"_id": index} if entry.key is None else entry.key
        if entry.operation in ("insert", "replace"):
            event["fullDocument"] = key if entry.document is None else entry.document
        if entry.operation == "update" and self.looks_up:
            event["fullDocument"] = self.oplog.find(entry.namespace, key["_id"])
        database, _, collection = entry.namespace.partition(".")
        event["ns"] = {"db": database} | ({"coll": collection} if collection else {})
        if entry.operation not in ("drop", "dropDatabase"):
            event["documentKey"] = key
        if entry.description is not None:
            event["updateDescription"] = entry.description
        return event


def is_invalidate(form: Form, token: Token) -> bool:
    """Whether a token is an invalidate's."""
    return form.place(token).kind == "invalidate"
