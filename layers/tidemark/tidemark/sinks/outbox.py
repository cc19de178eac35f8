"""The entries of one batch that a target has not confirmed yet, shared by the threads that send.

    waiting ── take ──▶ in flight ── confirm ──▶ delivered
       ▲                    │
       └───── put back ─────┘

Only the oldest unconfirmed entry of a group can be taken. A request therefore never holds two of
one group, and none is sent while an earlier one of its group may still fail: the order of a group
survives partial failures, however many threads send.

An entry with a payload is taken alone, to have the payload put aside, and then given back: it joins
a request once its message is all there is to send.
"""

import heapq
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidemark.claimcheck import Payload
from tidemark.sinks.target import Failure, Limits

MAX_TRIES = 8
FULL_ENOUGH = 10  # entries of a request that is not held back for another's payload


@dataclass(slots=True)  # not frozen, which would double the cost of making one
class Entry:
    """One message of a request; `place` is its index in the batch.

    `payload`: what must be put aside before it may be sent.
    """

    place: int
    group: str
    size_bytes: int
    values: dict[str, Any]
    payload: Payload | None = None


class Taken(NamedTuple):
    """What a thread is to do next: nothing, where there are no `entries`.

    `payload`: what is to be put aside, None where messages are to be sent. `is_early`: nothing that
    was taken has come back yet. `is_first`: no other request was taken, but what was given back.
    """

    entries: list[Entry]
    payload: Payload | None
    is_early: bool
    is_first: bool


class Outbox:
    """The first `count` changes of a batch; those without an entry are delivered already."""

    def __init__(
        self, count: int, entries: Sequence[Entry], limits: Limits, *, keeps_order: bool
    ) -> None:
        self._entries = {each.place: each for each in entries}
        self._limits = limits
        self._groups = _groups_of(entries) if keeps_order else {}
        behind = {place for group in self._groups.values() for place in list(group)[1:]}
        self._ready = [place for place in self._entries if place not in behind]  # a heap
        self._waiting = bytearray(count)
        for place in self._entries:
            self._waiting[place] = 1
        self._end = count  # nothing from here on is sent any more
        self._in_flight = 0
        self._hurried = False
        self._requests = 0  # taken to be sent
        self._has_landed = False  # whether anything taken has come back
        self._alone: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._failures: dict[int, Failure] = {}
        self._changed = threading.Condition()

    @property
    def tasks(self) -> int:
        """How many threads could be busy at first: payloads to put aside, requests to send."""
        payloads = sum(entry.payload is not None for entry in self._entries.values())
        return payloads - (-len(self._entries) // self._limits.entries)

    @property
    def delivered(self) -> int:
        """How many changes from the start are confirmed without a gap."""
        gap = self._waiting.find(1)
        return len(self._waiting) if gap < 0 else gap

    @property
    def ahead(self) -> list[int]:
        """The places confirmed behind the first that is not."""
        waiting = self._waiting
        return [place for place in range(self.delivered, len(waiting)) if not waiting[place]]

    def failure_of(self, place: int) -> Failure | None:
        """Why the entry was last refused, None if it never was."""
        return self._failures.get(place)

    def size_bytes_of(self, place: int) -> int:
        """The entry's bytes, as the service counts them."""
        return self._entries[place].size_bytes

    def take(self) -> Taken:
        """A request as full as may be, the oldest entries first; without any when all is over.

        Waits while nothing can be taken but something is in flight: it may come back, or free the
        next of its group.
        """
        with self._changed:
            self._changed.wait_for(self._is_decided)
            entries = self._filled()
            self._in_flight += len(entries)
            payload = entries[0].payload if entries else None
            taken = Taken(entries, payload, not self._has_landed, not self._requests)
            self._requests += payload is None
        return taken

    def confirm(self, entries: Sequence[Entry]) -> None:
        """Each of `entries` is delivered: the next of its group can be taken."""
        with self._changed:
            for entry in entries:
                self._waiting[entry.place] = 0
                self._free_next(entry.group)
            self._landed(len(entries))

    def give_back(self, taken: Taken) -> None:
        """Nothing was sent of what was taken: each can be taken again."""
        with self._changed:
            self._requests -= taken.payload is None
            self._return(taken.entries)

    def put_back(self, entries: Sequence[Entry], failures: Sequence[Failure]) -> None:
        """Each of `entries` failed: it can be taken again, unless there is no hope for it.

        Hopeless is what was rejected by itself, and what failed `MAX_TRIES` times; nothing behind
        it is sent then, since all of that would come again with the next run.
        """
        with self._changed:
            for entry, failure in zip(entries, failures, strict=True):
                self._failed(entry.place, failure)
            self._landed(len(entries))

    def isolate(self, entries: Sequence[Entry]) -> None:
        """A request was rejected whole: each of `entries` is sent alone, to find which is meant."""
        with self._changed:
            self._alone.update(entry.place for entry in entries)
            self._return(entries)

    def hurry(self) -> None:
        """There is no time to put payloads aside: what needs it waits for another delivery."""
        with self._changed:
            self._hurried = True
            ready, self._ready = self._ready, []
            for place in ready:
                self._make_ready(place)
            self._changed.notify_all()

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
                self._make_ready(group[0])

    def _return(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._make_ready(entry.place)
        self._landed(len(entries))

    def _make_ready(self, place: int) -> None:
        if not self._hurried or self._entries[place].payload is None:
            heapq.heappush(self._ready, place)

    def _is_decided(self) -> bool:
        return self._has_ready() or not self._in_flight or not self._end

    def _has_ready(self) -> bool:
        return bool(self._ready) and self._ready[0] < self._end

    def _filled(self) -> list[Entry]:
        request: list[Entry] = []
        left_bytes = self._limits.batch_bytes
        while self._has_ready() and len(request) < self._limits.entries:
            entry = self._entries[self._ready[0]]
            if entry.payload is not None and len(request) < FULL_ENOUGH:
                return self._alone_before(request)
            if request and not self._joins(entry, left_bytes):
                break
            heapq.heappop(self._ready)
            request.append(entry)
            left_bytes -= entry.size_bytes
            if entry.place in self._alone:
                break
        return request

    def _alone_before(self, request: Sequence[Entry]) -> list[Entry]:
        """The oldest that is ready, whose payload comes first; `request` waits for it."""
        entry = self._entries[heapq.heappop(self._ready)]
        for each in request:
            heapq.heappush(self._ready, each.place)
        return [entry]

    def _joins(self, entry: Entry, left_bytes: int) -> bool:
        fits = entry.size_bytes <= left_bytes
        return fits and entry.payload is None and entry.place not in self._alone

    def _failed(self, place: int, failure: Failure) -> None:
        self._failures[place] = failure
        self._tries[place] += 1
        if failure.rejected or self._tries[place] >= MAX_TRIES:
            self._end = min(self._end, place)
        else:
            self._make_ready(place)

    def _landed(self, count: int) -> None:
        self._in_flight -= count
        self._has_landed = True
        self._changed.notify_all()


def _groups_of(entries: Sequence[Entry]) -> dict[str, deque[int]]:
    groups: dict[str, deque[int]] = defaultdict(deque)
    for entry in entries:
        groups[entry.group].append(entry.place)
    return groups
