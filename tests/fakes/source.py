"""A MongoDB server as a script, for the `Source` port."""

import hashlib
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import InvalidBSON
from bson.timestamp import Timestamp

from fakes.script import CLOSING, ONCE, VISIBLE, Crash, Entry, Kind
from fakes.traits import KIND, Traits
from tidemark.errors import (
    HistoryLost,
    OpeningTimedOut,
    SourceUnavailable,
    TidemarkError,
)
from tidemark.model import (
    Change,
    Deployment,
    OplogWindow,
    Position,
    Read,
    ReadEnd,
    Token,
    Undecodable,
)
from tidemark.ports import Clock, ReadLimits
from tidemark.settings import StreamSettings

HISTORY_LOST_CODE = 286
INVALID_TOKEN_CODE = 260


class ScriptedSource:
    """One oplog, which every reader shares; it behaves as its `traits` say.

    The token of an empty answer is after everything scanned, other tokens are their changes' own;
    `start_after` takes any of them. A position whose entries were pruned is lost. Time passes on
    `clock` while a read waits. `server_batch`: changes in one answer. `opening_s`: how long an
    opening takes. `refusals`: raised, in order, by the next openings.
    `invalidate_refusal`: raised by each opening at an invalidate's own token.
    """

    def __init__(
        self,
        clock: Clock,
        script: Iterable[Entry] = (),
        *,
        server_batch: int = 100,
        await_s: float = 0.25,
        traits: Traits = KIND,
    ) -> None:
        self.clock = clock
        self.server_batch = server_batch
        self.await_s = await_s
        self.traits = traits
        self.opening_s = 0.0
        self.refusals: deque[TidemarkError] = deque()
        self.invalidate_refusal: TidemarkError | None = None
        self.opened: list[Position] = []
        self.batch_sizes: list[int | None] = []  # what each opening asked for
        self.invocations = 0
        self.open_readers = 0
        self.scans_left = 0  # that nobody waits for, and nobody has killed
        self.pruned = 0
        self.changes: dict[int, Change] = {}
        self.invalidates: dict[int, Change] = {}
        self._entries: list[Entry] = []
        self._times: list[Timestamp] = []
        self._indexes: dict[str, int] = {}
        self._spent: set[int] = set()
        self.write(*script)

    @property
    def end(self) -> int:
        """How many entries the oplog has had; an index is a number of entries passed."""
        return len(self._entries)

    @property
    def operation_time(self) -> Timestamp:
        """The server's time: its last entry's."""
        return self._time_at(self.end)

    def begin_invocation(self) -> None:
        """See `ports.Source`."""
        self.invocations += 1

    def deployment(self, *, timeout_s: float) -> Deployment:  # noqa: ARG002 - it never stalls
        """See `ports.Source`."""
        return Deployment(self.traits.set_name, self.traits.start_after)

    def time_of(self, position: Position) -> Timestamp | None:
        """See `ports.Source`."""
        if position.operation_time is not None:
            return position.operation_time
        index = self._indexes.get((position.resume_token or {}).get("_data", ""))
        return self._time_at(index) if index is not None and self.traits.token_times else None

    def oplog_window(self, *, timeout_s: float) -> OplogWindow:  # noqa: ARG002 - it never stalls
        """See `ports.Source`."""
        if self.pruned == self.end:
            return OplogWindow(None, "the scripted oplog is empty")
        return OplogWindow(self._time_at(self.pruned + 1))

    def write(self, *script: Entry) -> None:
        """Append to the oplog."""
        for entry in script:
            for _ in range(entry.fragments - 1):
                self._append(Entry(Kind.FRAGMENT, entry.key))
            self._append(entry)
            if entry.kind in VISIBLE:
                self.changes[self.end - 1] = self._change(entry)
            if entry.kind in CLOSING:
                self.invalidates[self.end - 1] = self._change(entry)

    def prune(self, to: int) -> None:
        """Forget the oplog's entries before the index `to`; of a split event, all or nothing."""
        while 0 < to <= self.end and self._entries[to - 1].kind is Kind.FRAGMENT:
            to -= 1
        self.pruned = max(self.pruned, min(to, self.end))

    def index_of(self, position: Position) -> int:
        """How many entries are before `position`. Raises HistoryLost for a token never given."""
        if position.operation_time is not None:
            return bisect_left(self._times, position.operation_time)
        try:
            return self._indexes[(position.resume_token or {})["_data"]]
        except KeyError:
            raise HistoryLost("a token of nowhere", INVALID_TOKEN_CODE) from None

    def token_at(self, index: int, kind: str = "post-batch") -> Token:
        """The opaque token of a place, by default as an empty answer brings it."""
        data = hashlib.sha256(f"{kind} {index}".encode()).hexdigest()[:24]
        self._indexes[data] = index
        return {"_data": data}

    def now(self, *, timeout_s: float) -> Position:  # noqa: ARG002 - it never stalls
        """Just behind the last entry."""
        return Position(operation_time=self._later_than_all())

    def earliest(self, *, timeout_s: float) -> Position:
        """At the oldest entry that was not pruned."""
        if self.pruned == self.end:
            return self.now(timeout_s=timeout_s)
        return Position(operation_time=self._times[self.pruned])

    def open(
        self,
        stream: StreamSettings,  # noqa: ARG002 - one oplog serves them all
        position: Position,
        *,
        timeout_s: float,
        batch_size: int | None,
    ) -> "ScriptedReader":
        """A reader behind `position`; see `ports.Source`."""
        self.opened.append(position)
        self.batch_sizes.append(batch_size)
        if self.refusals:
            raise self.refusals.popleft()
        if self.invalidate_refusal is not None and self._is_invalidates(position):
            raise self.invalidate_refusal
        if self.opening_s > timeout_s:
            self.clock.sleep_s(timeout_s)
            raise OpeningTimedOut("the scripted server was still scanning")
        self.clock.sleep_s(self.opening_s)
        if not self.traits.start_after and self._is_invalidates(position):
            raise HistoryLost("resumeAfter takes no invalidate's token", INVALID_TOKEN_CODE)
        index = self.index_of(position)
        if self.traits.loses_at == "open":
            self.require_kept(index)
        self.open_readers += 1
        return ScriptedReader(self, position, index, batch_size or self.server_batch)

    def shaped(self, change: Change) -> Change:
        """What the stream's pipeline leaves of a change."""
        hides = self.traits.hides
        if not hides or isinstance(change, Undecodable):
            return change
        return {name: value for name, value in change.items() if name not in hides}

    def require_kept(self, index: int) -> None:
        """Raise HistoryLost where the entries from `index` on were pruned."""
        if index < self.pruned:
            raise HistoryLost("pruned", HISTORY_LOST_CODE)

    def next_invalidate(
        self,
        stream: StreamSettings,  # noqa: ARG002 - one oplog serves them all
        position: Position,
        *,
        timeout_s: float,  # noqa: ARG002 - it never stalls
    ) -> Change | None:
        """The next invalidate, delivered or hidden."""
        after = self.index_of(position)
        self.require_kept(after)
        return next((self.invalidates[at] for at in self.invalidates if at >= after), None)

    def entry_at(self, index: int) -> Entry | None:
        """The entry behind the first `index`; None at the end."""
        return self._entries[index] if index < self.end else None

    def strike(self, index: int, timeout_s: float) -> None:
        """Let the fault of the entry at `index` happen, unless it has."""
        entry = self._entries[index]
        if entry.kind not in ONCE or index in self._spent:
            return
        self._spent.add(index)
        if entry.kind is Kind.CRASH:
            raise Crash
        if entry.kind is Kind.HISTORY_LOST:
            self.prune(index + 1)
            raise HistoryLost("pruned", HISTORY_LOST_CODE)
        self.clock.sleep_s(min(entry.stall_s, timeout_s))
        if entry.kind is Kind.UNAVAILABLE or entry.stall_s > timeout_s:
            raise SourceUnavailable("the scripted server failed")

    def _is_invalidates(self, position: Position) -> bool:
        tokens = [invalidate["_id"] for invalidate in self.invalidates.values()]
        return position.resume_token in tokens

    def _time_at(self, index: int) -> Timestamp:
        """The time of the last entry before `index`."""
        return self._times[index - 1] if index else Timestamp(1, 0)

    def _append(self, entry: Entry) -> None:
        self._times.append(self._later_than_all())
        self._entries.append(entry)

    def _later_than_all(self) -> Timestamp:
        now = Timestamp(self.clock.time_ms() // 1000, 1)
        if not self._times or self._times[-1] < now:
            return now
        return Timestamp(self._times[-1].time, self._times[-1].inc + 1)

    def _change(self, entry: Entry) -> Change:
        index = self.end - 1
        change: dict[str, Any] = {
            "_id": self.token_at(index + 1, "change"),
            "operationType": "invalidate" if entry.kind in CLOSING else "insert",
            "clusterTime": self._times[index],
            "wallTime": datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC),
        }
        if entry.kind in CLOSING:
            return change
        change |= {"ns": {"db": "shop", "coll": "orders"}, "documentKey": {"_id": entry.key}}
        if entry.kind is Kind.UNDECODABLE:
            return Undecodable(change, b"\xff", InvalidBSON("scripted"))
        return change | {"fullDocument": dict(entry.document)}


class ScriptedReader:
    """One open scripted stream; `scanned` is the index that its server has come to."""

    def __init__(
        self, source: ScriptedSource, position: Position, index: int, server_batch: int
    ) -> None:
        self.scanned = index
        self._opened_with = position.resume_token
        self.opening_token: Token | None = position.resume_token or source.token_at(index)
        self.opened_at: Timestamp | None = source.operation_time
        self.operation_time: Timestamp | None = source.operation_time
        self._source = source
        self._traits = source.traits
        self._opened_at_index = index
        self._told = index  # where the last token stood
        self._server_batch = server_batch
        self._held: deque[Change] = deque()
        self._invalidate: Change | None = None
        self._is_invalidated = False
        self._is_closed = False
        self._is_over = False  # closed, given up, or its invalidate was told
        self._left_scan = False
        self._failure: TidemarkError | None = None

    @property
    def told(self) -> int:
        """Where the last token stood."""
        return self._told

    @property
    def has_left_scan(self) -> bool:
        """Whether a read was given up, and nobody has killed its scan."""
        return self._left_scan

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """The next changes; see `ports.Reader`."""
        if self._is_over:
            raise AssertionError("only close may follow")
        if self._failure is not None:
            raise self._failure
        changes: list[Change] = []
        try:
            read = self._take(changes, limits, timeout_s)
        except TidemarkError as failure:
            if not changes:
                raise
            self._failure = failure
            return Read(changes, ReadEnd.DRAINED)
        self._is_over = read.end in (ReadEnd.INVALIDATED, ReadEnd.GIVEN_UP)
        return read

    def interrupt(self, *, timeout_s: float) -> None:
        """See `ports.Reader`: nobody else can be at work here."""

    def close(self, *, timeout_s: float) -> bool:  # noqa: ARG002 - it never stalls
        """End the stream, and the scan that it has left behind."""
        self._source.open_readers -= not self._is_closed
        self._source.scans_left -= self._left_scan
        self._left_scan = False
        self._is_closed = self._is_over = True
        return True

    def _take(self, changes: list[Change], limits: ReadLimits, timeout_s: float) -> Read:
        self._source.require_kept(self.scanned)
        until_s = self._source.clock.monotonic_s() + limits.max_age_s
        while True:
            if not self._held:
                answer = self._next_answer(timeout_s)
                if answer is None:
                    return Read(changes, ReadEnd.GIVEN_UP)
                self._held.extend(answer)
            if not self._held:
                return self._ended(changes)
            while self._held:
                if changes and not _fits(changes, self._held[0], limits):
                    return Read(changes, ReadEnd.FULL)
                changes.append(self._held.popleft())
                if isinstance(changes[-1], Undecodable):
                    return Read(changes, ReadEnd.DRAINED)
            if self._is_invalidated:
                return self._closed(changes)
            if self._source.clock.monotonic_s() >= until_s:
                return Read(changes, ReadEnd.DRAINED)

    def _ended(self, changes: list[Change]) -> Read:
        if self._is_invalidated:
            return self._closed(changes)
        if self._traits.empties == "moved" or self.scanned == self._source.end:
            self._told = self.scanned
        return Read(changes, ReadEnd.EMPTY, self._token())

    def _token(self) -> Token:
        """The post-batch token: the opening's own while nothing was scanned."""
        if self._told == self._opened_at_index and self._opened_with is not None:
            return self._opened_with
        return self._source.token_at(self._told)

    def _closed(self, changes: list[Change]) -> Read:
        tells = self._traits.closing_tells and self._traits.start_after
        own = self._invalidate["_id"] if self._invalidate and tells else None
        return Read(changes, ReadEnd.INVALIDATED, own)

    def _next_answer(self, timeout_s: float) -> list[Change] | None:
        """What one getMore brings: it may wait, and may meet a fault; None if it takes too long."""
        self._is_invalidated = self._is_invalidated or self._invalidate is not None
        began, answer = self.scanned, list[Change]()
        try:
            self._scan(answer, timeout_s)
        finally:
            self.operation_time = self._source.operation_time
        took_s = (self.scanned - began) * self._traits.entry_s
        if took_s >= timeout_s:
            self._give_up(timeout_s)
            return None
        self._source.clock.sleep_s(took_s)
        if answer:
            self._told = self.scanned
        elif not self._is_invalidated:
            self._source.clock.sleep_s(min(self._source.await_s, timeout_s - took_s))
        return answer

    def _scan(self, answer: list[Change], timeout_s: float) -> None:
        scanned, most = 0, self._traits.scan_entries or self._source.end + 1
        while not self._is_invalidated and len(answer) < self._server_batch:
            entry = self._source.entry_at(self.scanned)
            is_idle = entry is not None and entry.kind is Kind.IDLE and not self._traits.scans_on
            if entry is None or (answer and (is_idle or entry.kind in ONCE)):
                return
            if scanned >= most and not self._is_inside_split():
                return
            self._source.strike(self.scanned, timeout_s)
            self.scanned, scanned = self.scanned + 1, scanned + 1
            if is_idle:
                return
            if entry.kind in VISIBLE:
                answer.append(self._whole(self.scanned - 1, entry))
            if entry.kind in CLOSING:
                self._meet_invalidate(answer, entry)
                return

    def _is_inside_split(self) -> bool:
        before = self._source.entry_at(self.scanned - 1) if self.scanned else None
        return before is not None and before.kind is Kind.FRAGMENT

    def _meet_invalidate(self, answer: list[Change], entry: Entry) -> None:
        """The server closes the cursor here, or with its next answer."""
        self._invalidate = self._source.invalidates[self.scanned - 1]
        is_full = len(answer) == self._server_batch and entry.kind in VISIBLE
        late = self._traits.closes == "late" or (
            self._traits.closes == "late_when_full" and is_full
        )
        self._is_invalidated = not (late and answer)

    def _give_up(self, timeout_s: float) -> None:
        """Nobody waits for the answer any more; the scan goes on in the server."""
        self._source.clock.sleep_s(timeout_s)
        self._source.scans_left += 1
        self._left_scan = True

    def _whole(self, index: int, entry: Entry) -> Change:
        """The change at `index`: only a part of it where the stream was opened among its parts."""
        change = self._source.shaped(self._source.changes[index])
        if self._opened_at_index > index - (entry.fragments - 1):
            return {**change, "splitEvent": {"fragment": entry.fragments, "of": entry.fragments}}
        return change


def _fits(changes: list[Change], another: Change, limits: ReadLimits) -> bool:
    if len(changes) >= limits.max_changes or isinstance(another, Undecodable):
        return False
    if limits.max_bytes is None:
        return True
    return sum(map(_size, [*changes, another])) <= limits.max_bytes


def _size(change: Mapping[str, Any]) -> int:
    return len(bson.encode(change))
