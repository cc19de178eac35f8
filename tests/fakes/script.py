"""The words of a script: what happens in an oplog, faults included."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Crash(BaseException):
    """The container is gone. No `except Exception` of the engine may stop it."""


class Kind(StrEnum):
    """What an entry of a scripted oplog is."""

    CHANGE = "change"
    FRAGMENT = "fragment"  # of a split event, but its last
    UNDECODABLE = "undecodable"
    INVALIDATE = "invalidate"
    HIDDEN_INVALIDATE = "hidden_invalidate"
    IDLE = "idle"
    CRASH = "crash"
    HISTORY_LOST = "history_lost"
    UNAVAILABLE = "unavailable"
    STALL = "stall"


VISIBLE = frozenset({Kind.CHANGE, Kind.UNDECODABLE, Kind.INVALIDATE})
CLOSING = frozenset({Kind.INVALIDATE, Kind.HIDDEN_INVALIDATE})
ONCE = frozenset({Kind.CRASH, Kind.HISTORY_LOST, Kind.UNAVAILABLE, Kind.STALL})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a script; `fragments` oplog entries of a split event, one of all others."""

    kind: Kind
    key: object = None
    document: Mapping[str, Any] = field(default_factory=dict)
    fragments: int = 1
    stall_s: float = 0.0


def insert(key: object, **document: Any) -> Entry:
    """An insert of the document `key`."""
    return Entry(Kind.CHANGE, key, {"_id": key, **document})


def split(key: object, *, of: int) -> Entry:
    """An insert that comes in `of` fragments."""
    return Entry(Kind.CHANGE, key, {"_id": key}, fragments=of)


def undecodable(key: object) -> Entry:
    """An insert whose document cannot be decoded."""
    return Entry(Kind.UNDECODABLE, key)


def stall(seconds: float) -> Entry:
    """A server that does not answer for `seconds`, once."""
    return Entry(Kind.STALL, stall_s=seconds)


IDLE = Entry(Kind.IDLE)  # an empty answer, although more follows: the server scanned and found none
CRASH = Entry(Kind.CRASH)  # the container dies reading here, once
HISTORY_LOST = Entry(Kind.HISTORY_LOST)  # all before here is pruned as it is reached, once
UNAVAILABLE = Entry(Kind.UNAVAILABLE)  # the server fails here, once
INVALIDATE = Entry(Kind.INVALIDATE, "invalidate")
HIDDEN_INVALIDATE = Entry(Kind.HIDDEN_INVALIDATE)  # the user's pipeline filtered it out
UNDECODABLE = undecodable("undecodable")
