"""A change stream's cursor: where it stands, what it has scanned, and what its next batch holds."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import bson

from servers import pipeline
from servers.errors import CHANGE_STREAM_FATAL, CommandError
from servers.tokens import Place, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bson.timestamp import Timestamp

    from servers.character import Character
    from servers.events import Event, View
    from servers.oplog import Oplog, Stretch
    from servers.scans import Scan

BATCH_BYTES = 16_000_000
POLL_S = 0.01  # how often a wait looks for what a cold shard lets through


class Reached(Enum):
    """Where a scan has got to."""

    EVENT = auto()
    END = auto()
    TIME = auto()


@dataclass
class Batch:
    """What one answer holds; `limit` None is bounded by bytes alone."""

    limit: int | None
    events: list[Event] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no further event has room."""
        return len(self.events) == self.limit or self.size_bytes > BATCH_BYTES

    def add(self, event: Event) -> None:
        """Append an event."""
        self.events.append(event)
        self.size_bytes += len(bson.encode(event))


@dataclass(frozen=True)
class Start:
    """Where a cursor begins.

    `token` is the post-batch token of an answer before any scan. Whether the oplog still holds the
    place is told when the oplog is first read.
    """

    place: Place
    token: Token
    history_lost: bool = False


class Cursor:
    """One open change stream."""

    def __init__(
        self, namespace: str, view: View, start: Start, stages: Sequence[dict[str, Any]]
    ) -> None:
        self.namespace = namespace
        self.token = start.token
        self.scan: Scan | None = None
        self.is_closed = False
        self._start = start
        self._view = view
        self._stages = stages
        self._from_time: Timestamp = start.place.time
        self._position: int | None = None
        self._pending: deque[Event] = deque()
        self._invalidate: Token | None = None
        self._misses_token = False
        self._scanned_at_s: float | None = None

    @property
    def _oplog(self) -> Oplog:
        return self._view.oplog

    @property
    def _character(self) -> Character:
        return self._view.character

    def fill(self, scan: Scan, limit: int | None, *, wait_s: float | None) -> Batch:
        """The next batch; `wait_s` None scans to the oplog's end and waits for nothing.

        Afterwards `token` and `is_closed` say what the answer says. Raises CommandError.
        """
        deadline_s = time.monotonic() + (wait_s or 0.0)
        self._begin()
        batch = Batch(limit)
        while not self._is_answer(batch, scan, deadline_s, waits=wait_s is not None):
            pass
        return batch

    # --------------------------------------------------------------------------- one step of it

    def _is_answer(self, batch: Batch, scan: Scan, deadline_s: float, *, waits: bool) -> bool:
        """Do one step; whether `batch` is what is answered."""
        if self._pending:
            return self._show(batch)
        if self._invalidate is not None:
            self._close()
            return True
        if batch.events and not self._character.fills_batches and not self._is_at_event():
            return True
        reached = self._advance(scan, self._scan_until_s(deadline_s, waits=waits))
        if reached is Reached.EVENT:
            return False
        if reached is Reached.TIME:
            self._run_out_of_time()
            return True
        self._move_to_high_water()
        return bool(batch.events) or not (waits and self._is_worth_a_wait(scan, deadline_s))

    def _show(self, batch: Batch) -> bool:
        """Put the next event through the pipeline; whether the batch ends with it."""
        event = self._pending.popleft()
        if self._misses_token:
            raise CommandError(CHANGE_STREAM_FATAL, "the resume token was not found")
        token: Token = event["_id"]
        if event["operationType"] == "invalidate":
            self._invalidate = token
        shown = pipeline.apply(self._stages, event)
        if shown is not None:
            if shown.get("_id") != token:
                raise CommandError(CHANGE_STREAM_FATAL, "the pipeline modified the _id field")
            batch.add(shown)
            self.token = token
        late = self._invalidate is not None and self._character.closes_late
        return late or (shown is not None and batch.is_full)

    def _close(self) -> None:
        """End the cursor, with the post-batch token that this server gives then."""
        self.is_closed = True
        if self._character.closing_token == "own" and self._invalidate is not None:
            self.token = self._invalidate
        if self._character.closing_token == "absent":
            self.token = {}

    # --------------------------------------------------------------------------------- scanning

    def _begin(self) -> None:
        """Find the place to start at, once; and when the scan's time begins."""
        if self._position is None:
            if self._start.history_lost:
                raise CommandError(self._character.history_lost, "the resume point is not there")
            self._position = self._first_position()
        if self._scanned_at_s is None or self._character.scanning != "unmoved":
            self._scanned_at_s = time.monotonic()

    def _first_position(self) -> int:
        place, index = self._start.place, self._oplog.index_at(self._start.place.time)
        if place.kind == "high_water":
            return index
        stretch = self._oplog.at(index)
        if stretch is None or not self._is_of(stretch, index, place):
            self._misses_token = True
            return index
        entry = stretch.entry
        if place.kind == "event" and self._view.scope.invalidates(entry):
            self._pending.append(self._view.invalidate(entry, place.time))
        return index + 1

    def _is_of(self, stretch: Stretch, index: int, place: Place) -> bool:
        """Whether the entry is what an event's token was made of."""
        entry = stretch.entry
        same = place.collection in ("", entry.collection)
        is_there = stretch.first <= index and stretch.time_of(index) == place.time
        return is_there and same and self._view.scope.holds(entry)

    def _advance(self, scan: Scan, until_s: float | None) -> Reached:
        """Scan up to the next event in scope, the end that can be seen, or a second."""
        end = self._visible_end()
        while self._at < end and (stretch := self._oplog.at(self._at)) is not None:
            if stretch.first > self._at:
                raise CommandError(self._character.history_lost, "the oplog was truncated")
            if self._is_in_scope(stretch):
                return self._reach_event(scan, stretch, until_s)
            if not self._pass(scan, min(stretch.end, end) - self._at, until_s):
                return Reached.TIME
        return Reached.END

    def _reach_event(self, scan: Scan, stretch: Stretch, until_s: float | None) -> Reached:
        index = self._at
        if not self._pass(scan, 1, until_s):
            return Reached.TIME
        if stretch.time_of(index) >= self._from_time:
            self._pending.extend(self._view.events(stretch, index))
        return Reached.EVENT

    def _pass(self, scan: Scan, count: int, until_s: float | None) -> bool:
        """Go over `count` entries, or as many as `until_s` allows; whether all were."""
        cost_s, at_s = self._character.scan_cost_s, self._scanned_at_s or 0.0
        finish_s = at_s + count * cost_s
        if until_s is None or finish_s <= until_s or not cost_s:
            scan.sleep_until(finish_s)
            self._position, self._scanned_at_s = self._at + count, finish_s
            return True
        passed = max(0, int((until_s - at_s) / cost_s))
        scan.sleep_until(until_s)
        self._position, self._scanned_at_s = self._at + passed, at_s + passed * cost_s
        return False

    @property
    def _at(self) -> int:
        return self._position or 0

    def _visible_end(self) -> int:
        cold_s = self._character.cold_shard_s
        return self._oplog.end_before_s(time.monotonic() - cold_s) if cold_s else self._oplog.end

    def _is_in_scope(self, stretch: Stretch) -> bool:
        return self._view.scope.holds(stretch.entry)

    def _is_at_event(self) -> bool:
        stretch = self._oplog.at(self._at) if self._at < self._visible_end() else None
        return stretch is not None and stretch.first <= self._at and self._is_in_scope(stretch)

    def _scan_until_s(self, deadline_s: float, *, waits: bool) -> float | None:
        return deadline_s if waits and self._character.scanning != "long" else None

    # ------------------------------------------------------------------------ where it ended up

    def _run_out_of_time(self) -> None:
        """Tell how far the scan has come, or keep it going behind the client's back."""
        if self._character.scanning == "moved":
            self._move_to_high_water()
        # "unmoved": `_scanned_at_s` stays, so that the scan has gone on until the next getMore

    def _move_to_high_water(self) -> None:
        self._scanned_at_s = None
        stretch = self._oplog.at(self._at - 1) if self._at else None
        if stretch is None or stretch.first > self._at - 1:
            return
        when = stretch.time_of(self._at - 1)
        if when > self._view.form.place(self.token).time:
            self.token = self._view.form.token(Place(when, "high_water"))

    def _is_worth_a_wait(self, scan: Scan, deadline_s: float) -> bool:
        """Wait for an entry that can be seen; whether there is one before the deadline."""
        is_cold = self._character.cold_shard_s > 0
        while (left_s := deadline_s - time.monotonic()) > 0 and self._at >= self._visible_end():
            scan.check()
            with self._oplog.changed:
                if self._at >= self._visible_end():
                    self._oplog.changed.wait(min(left_s, POLL_S if is_cold else 0.05))
        self._scanned_at_s = time.monotonic()
        return self._at < self._visible_end()
