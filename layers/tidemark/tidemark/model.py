"""The things Tidemark speaks of, without any I/O.

A change is the document that PyMongo returns for a change event, unaltered. A resume token is
opaque: it is stored, hashed and handed back, never parsed or compared.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from bson import json_util
from bson.timestamp import Timestamp

Change: TypeAlias = Mapping[str, Any]
Token: TypeAlias = Mapping[str, Any]


def token_json(token: Token) -> str:
    """A resume token as canonical Extended JSON: how it is stored and what a change id hashes.

    MongoDB's own is one field of hex digits, which has one spelling: to ask `json_util` for it
    takes four times as long, for every change of every sink.
    """
    data = token.get("_data") if len(token) == 1 else None
    if type(data) is str and data.isascii() and data.isalnum():
        return f'{{"_data": "{data}"}}'
    return json_util.dumps(token, json_options=json_util.CANONICAL_JSON_OPTIONS)


def parse_token(text: str) -> Token:
    """The token that `token_json` wrote. Raises ValueError or TypeError where it did not."""
    token = json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS)
    if not isinstance(token, dict):
        raise TypeError("a resume token is a document")
    return token


def change_id(change: Change) -> str:
    """64 hex digits that name a change: the same each time it is delivered (G3).

    SHA-256 of its resume token's canonical Extended JSON; of the last fragment's for a split event.
    """
    return hashlib.sha256(token_json(change["_id"]).encode()).hexdigest()


class Undecodable(dict[str, Any]):
    """A change whose document cannot be decoded: what could be read of it, and its raw BSON."""

    def __init__(self, readable: Change, raw: bytes, cause: Exception) -> None:
        super().__init__(readable)
        self.raw = raw
        self.cause = cause


class Batch(Sequence[Change]):
    """Changes delivered and checkpointed together: 1..max_changes, in stream order."""

    __slots__ = ("_changes", "fencing_token", "stream")

    def __init__(self, stream: str, changes: Sequence[Change], fencing_token: int) -> None:
        self.stream = stream
        self.fencing_token = fencing_token
        self._changes = changes

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def __getitem__(self, index: Any) -> Any:
        """One change; a slice gives a shorter batch of the same stream."""
        if isinstance(index, slice):
            return Batch(self.stream, self._changes[index], self.fencing_token)
        return self._changes[index]

    def __repr__(self) -> str:  # the default would print documents (G8)
        return f"Batch(stream={self.stream!r}, changes={len(self)})"

    @staticmethod
    def change_id(change: Change) -> str:
        """The change's name; see `tidemark.model.change_id`."""
        return change_id(change)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream: a resume token to start after, or an operation time to start at.

    Exactly one of the two is set.
    """

    resume_token: Token | None = None
    operation_time: Timestamp | None = None

    def __post_init__(self) -> None:
        if (self.resume_token is None) == (self.operation_time is None):
            raise ValueError("a position is either a resume token or an operation time")

    def __str__(self) -> str:
        """`token:` and the first 12 digits of its hash, or `operation_time:` and seconds.increment.

        Enough to see that a position moved, and nothing of the token itself.
        """
        if self.operation_time is not None:
            return f"operation_time:{self.operation_time.time}.{self.operation_time.inc}"
        digest = hashlib.sha256(token_json(self.resume_token or {}).encode()).hexdigest()
        return f"token:{digest[:12]}"


@dataclass(frozen=True, slots=True)
class Observed:
    """The server's time as it was last heard, and when that was by our own clock."""

    operation_time: Timestamp
    at_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stream's durable progress: its position and what was known when it was stored.

    `cluster_time` and `change_wall_time_ms` are of the last change before the position, None until
    there was one. `definition` is canonical JSON of what the position belongs to, `deployment` the
    replica set's name (G10); `unopened` until the stream has opened with them.
    `behind_invalidate`: the position is an invalidate's own token, which some servers refuse.
    `before`: a position certainly before the last change, kept where it may be needed.
    """

    position: Position
    definition: str
    fingerprint: str
    cluster_time: Timestamp | None = None
    change_wall_time_ms: int | None = None
    checkpointed_at_ms: int = 0
    behind_invalidate: bool = False
    before: Position | None = None
    deployment: str | None = None
    unopened: bool = False
    observed: Observed | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a position must know of the server that it is of.

    `set_name`: the replica set's, None behind mongos. `start_after`: whether a stream can be opened
    after an invalidate's own token. `is_sharded`: behind mongos, whose token waits for each shard.
    """

    set_name: str | None = None
    start_after: bool = True
    is_sharded: bool = False


@dataclass(frozen=True, slots=True)
class OplogWindow:
    """The oldest time of the oplog; None with the reason why it is not known."""

    oldest: Timestamp | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often the change at the position has failed; none when `count` is 0.

    `alone`: each time it was delivered by itself, or named by the sink, so that nobody else can be
    to blame. `open`: nobody knows how the last one ended.
    """

    count: int = 0
    change_id: str | None = None
    first_at_ms: int | None = None
    alone: bool = False
    open: bool = False

    def of(self, name: str) -> int:
        """How often the change named `name` has failed."""
        return self.count if self.change_id == name else 0


NO_ATTEMPTS = Attempts()


@dataclass(frozen=True, slots=True)
class Lease:
    """The time-bounded right to read a stream. `fencing_token` rises each time it is taken."""

    stream: str
    owner: str
    fencing_token: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Acquired:
    """The lease is ours; with it came what the stream's item held.

    `unreleased_runs` counts the runs before this one that took the lease and neither moved the
    position nor released: killed containers.
    """

    lease: Lease
    checkpoint: Checkpoint | None = None
    attempts: Attempts = NO_ATTEMPTS
    unreleased_runs: int = 0


@dataclass(frozen=True, slots=True)
class NotAcquired:
    """The lease is not ours: who holds it until when, or why the stream is not read.

    `checkpoint`: where the stream stands, None before its first position.
    """

    status: "Status"
    status_reason: str | None
    owner: str | None
    expires_at_ms: int
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes that the server no longer has for us: from where to where, and why (G7).

    `from_checkpoint` is the last known progress, `code` the server's error code, `definition` the
    stream's in canonical JSON.
    """

    stream: str
    reason: str
    code: int | None
    recorded_at_ms: int
    definition: str
    from_checkpoint: Checkpoint | None
    to_position: Position


class Status(StrEnum):
    """Whether a stream may be read; `paused` and `halted` wait for an operator."""

    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"


class StopReason(StrEnum):
    """Why a stream's run ended."""

    CAUGHT_UP = "caught_up"
    BUDGET = "budget"
    LEASE_HELD = "lease_held"
    LEASE_LOST = "lease_lost"
    PAUSED = "paused"
    HALTED = "halted"
    FAILED = "failed"


class ReadEnd(StrEnum):
    """Why a read returned.

    `DRAINED`: every change that the server had sent is in hand. `EMPTY`: the answer of a getMore
    held no change. `INVALIDATED`: the server closed the cursor after the last change, if any.
    `GIVEN_UP`: its time was over, and the server had not answered.
    """

    FULL = "full"
    DRAINED = "drained"
    EMPTY = "empty"
    INVALIDATED = "invalidated"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Read:
    """What one read of a stream gave, in stream order.

    `resume_token` is the server's post-batch token, after everything read so far (G6): set only
    by an empty answer, and by a closing one that carries the invalidate's own.
    """

    changes: Sequence[Change]
    end: ReadEnd
    resume_token: Token | None = None


@dataclass(slots=True)
class StreamSummary:
    """One stream's run: JSON-able, without anything private.

    `changes` are those delivered, `dead_letters` those set aside. `lag_ms`: how far the position is
    behind the server's own time; `headroom_s`: how much of the oplog is before it. Each is None,
    with a reason, where it is not known. `scan_ms`: how long reads took that had not come to the
    end; `no_progress`: the whole run went into one that has led nowhere yet. `error`: the type and
    message of what failed the run.
    """

    stream: str
    stop_reason: StopReason = StopReason.FAILED
    changes: int = 0
    batches: int = 0
    dead_letters: int = 0
    gaps: int = 0
    lag_ms: int | None = None
    lag_reason: str | None = None
    headroom_s: int | None = None
    headroom_reason: str | None = None
    scan_ms: int = 0
    no_progress: bool = False
    position: str | None = None
    fencing_token: int | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields without the stream's name, ready for `json.dumps`."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "stream"}
        return values | {"stop_reason": self.stop_reason.value}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """All streams of one invocation."""

    streams: Sequence[StreamSummary] = field(default_factory=tuple)

    @property
    def failed(self) -> list[StreamSummary]:
        """The streams whose run ended in an error."""
        return [stream for stream in self.streams if stream.error is not None]

    def as_json(self) -> dict[str, Any]:
        """`{"streams": {name: {stop_reason, changes, batches, lag_ms, position, …}}}`."""
        return {"streams": {stream.stream: stream.as_json() for stream in self.streams}}
