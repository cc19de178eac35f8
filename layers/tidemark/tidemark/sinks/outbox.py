"""The entries of one batch that a target has not confirmed yet, shared by the threads that send.

    waiting ── take ──▶ in flight ── confirm ──▶ delivered
       ▲                    │
       └───── put back ─────┘

Only the oldest unconfirmed entry of a group can be taken. A request therefore never holds two of
one group, and none is sent while an earlier one of its group may still fail: the order of a group
survives partial failures, however many threads send.
"""

import heapq
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemark.claimcheck import Payload
from tidemark.sinks.target import Failure, Limits

MAX_TRIES = 8


@dataclass(slots=True)  # not frozen, which would double the cost of making one
class Entry:
    """One message of a request; `place` is its index in the batch."""

    place: int
    group: str
    size_bytes: int
    values: dict[str, Any]
    payload: Payload | None = None


class Outbox:
    """Entries in the order of their places, which count from 0 without a gap."""

    def __init__(self, entries: Sequence[Entry], limits: Limits, *, keeps_order: bool) -> None:
        self._entries = entries
        self._limits = limits
        self._groups = _groups_of(entries) if keeps_order else {}
        behind = {place for group in self._groups.values() for place in list(group)[1:]}
        self._ready = [each.place for each in entries if each.place not in behind]  # a heap
        self._delivered = bytearray(len(entries))
        self._end = len(entries)  # nothing from here on is sent any more
        self._in_flight = 0
        self._alone: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._failures: dict[int, Failure] = {}
        self._changed = threading.Condition()

    @property
    def delivered(self) -> int:
        """How many entries from the start are confirmed without a gap."""
        gap = self._delivered.find(0)
        return len(self._entries) if gap < 0 else gap

    def failure_of(self, place: int) -> Failure | None:
        """Why the entry was last refused, None if it never was."""
        return self._failures.get(place)

    def take(self) -> list[Entry]:
        """A request as full as may be, the oldest entries first; empty when all is over.

        Waits while nothing can be taken but something is in flight: it may come back, or free the
        next of its group.
        """
        with self._changed:
            self._changed.wait_for(self._is_decided)
            request = self._filled()
            self._in_flight += len(request)
        return request

    def confirm(self, entries: Sequence[Entry]) -> None:
        """Each of `entries` is delivered: the next of its group can be taken."""
        with self._changed:
            for entry in entries:
                self._delivered[entry.place] = 1
                self._free_next(entry.group)
            self._landed(len(entries))

    def put_back(self, entries: Sequence[Entry], failures: Sequence[Failure]) -> None:
        """Each of `entries` failed: it can be taken again, unless there is no hope for it.

        Hopeless is what was rejected by itself, and what failed `MAX_TRIES` times; nothing behind
        it is sent then, since all of that would come again.
        """
        with self._changed:
            for entry, failure in zip(entries, failures, strict=True):
                self._failed(entry.place, failure)
            self._landed(len(entries))

    def isolate(self, entries: Sequence[Entry]) -> None:
        """A request was rejected whole: each of `entries` is sent alone, to find which is meant."""
        with self._changed:
            for entry in entries:
                self._alone.add(entry.place)
                heapq.heappush(self._ready, entry.place)
            self._landed(len(entries))

    def close(self) -> None:
        """Nothing is sent any more; what is in flight may still be confirmed."""
        with self._changed:
            self._end = 0
            self._changed.notify_all()

    def tries_of(self, entries: Sequence[Entry]) -> int:
        """How often the most unlucky of `entries` has failed."""
        with self._changed:
            return max(self._tries[entry.place] for entry in entries)

    def _free_next(self, name: str) -> None:
        """The head of a group is delivered; without an order there are no groups."""
        group = self._groups.get(name)
        if group is not None:
            group.popleft()
            if group:
                heapq.heappush(self._ready, group[0])

    def _is_decided(self) -> bool:
        return self._has_ready() or not self._in_flight or not self._end

    def _has_ready(self) -> bool:
        return bool(self._ready) and self._ready[0] < self._end

    def _filled(self) -> list[Entry]:
        request: list[Entry] = []
        left_bytes = self._limits.batch_bytes
        while self._has_ready() and len(request) < self._limits.entries:
            entry = self._entries[self._ready[0]]
            if request and not self._joins(entry, left_bytes):
                break
            heapq.heappop(self._ready)
            request.append(entry)
            left_bytes -= entry.size_bytes
            if entry.place in self._alone:
                break
        return request

    def _joins(self, entry: Entry, left_bytes: int) -> bool:
        return entry.size_bytes <= left_bytes and entry.place not in self._alone

    def _failed(self, place: int, failure: Failure) -> None:
        self._failures[place] = failure
        self._tries[place] += 1
        if failure.rejected or self._tries[place] >= MAX_TRIES:
            self._end = min(self._end, place)
        else:
            heapq.heappush(self._ready, place)

    def _landed(self, count: int) -> None:
        self._in_flight -= count
        self._changed.notify_all()


def _groups_of(entries: Sequence[Entry]) -> dict[str, deque[int]]:
    groups: dict[str, deque[int]] = defaultdict(deque)
    for entry in entries:
        groups[entry.group].append(entry.place)
    return groups
