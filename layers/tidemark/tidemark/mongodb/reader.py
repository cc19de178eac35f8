"""One open change stream, read by one thread.

Facts about the driver that this rests on, in `pymongo/synchronous/change_stream.py` (4.20):

- `try_next()` makes at most one getMore and one resume; None is an empty answer.
- `resume_token` is a deep copy. It is the post-batch token after None *and* after the last change
  of a server batch, so it is read only after None (G6).
- An invalidate closes the stream after it is returned; one that the pipeline hid closes it with
  None.
- The stream survives a `pymongo.timeout`, but a document that cannot be decoded closes it.
"""

import contextlib
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol, TypeAlias

import pymongo
from bson.errors import InvalidBSON
from pymongo.change_stream import ChangeStream
from pymongo.errors import PyMongoError

from tidemark.errors import TidemarkError
from tidemark.model import Change, Position, Read, ReadEnd
from tidemark.mongodb.arrivals import Arrivals
from tidemark.mongodb.errors import translated
from tidemark.ports import ReadLimits

Stream: TypeAlias = ChangeStream[Any]


class Intake(Protocol):
    """How changes are taken from a stream; those taken are in `changes` even when it raises."""

    stream: Stream

    def take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Append to `changes` until the limits, an empty answer or an invalidate."""


class DirectIntake:
    """Takes changes at the driver's own speed.

    While the driver still holds changes of the server's last answer they are taken without a look
    at clock or limits: that makes no request and cannot wait.
    """

    def __init__(self, stream: Stream, arrivals: Arrivals) -> None:
        self.stream = stream
        self._arrivals = arrivals
        self._buffered = arrivals.take() or 0

    def take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Append decoded changes; see `Intake`."""
        try_next, oldest_s = self.stream.try_next, 0.0
        while (room := limits.max_changes - len(changes)) > 0:
            change = try_next()
            buffered = self._buffered_after_one()  # of None too: its size 0 must not be left behind
            if change is None:
                return ended(self.stream, changes)
            oldest_s = oldest_s or time.monotonic()
            changes.append(change)
            at_once = min(buffered, room - 1)
            changes.extend(islice(iter(try_next, None), at_once))
            self._buffered = buffered - at_once
            if not self._buffered and (end := end_of_batch(self.stream, oldest_s, limits)):
                return Read(changes, end)
        return Read(changes, ReadEnd.FULL)

    def _buffered_after_one(self) -> int:
        """How many changes the driver holds after it returned one, or none."""
        arrived = self._arrivals.take()
        return max(0, (self._buffered if arrived is None else arrived) - 1)


class MongoReader:
    """The `Reader` of one change stream.

    `reopened_raw` gives an intake, at a position, that survives what cannot be decoded.
    """

    def __init__(
        self, intake: Intake, position: Position, reopened_raw: Callable[[Position], Intake]
    ) -> None:
        self._intake = intake
        self._behind = position
        self._reopened_raw = reopened_raw
        self._failure: TidemarkError | None = None

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """The next changes; see `ports.Reader`."""
        if self._failure is not None:
            raise self._failure
        changes: list[Change] = []
        try:
            with translated("reading the stream"), pymongo.timeout(timeout_s):
                return self._moved_behind(self._take(changes, limits))
        except TidemarkError as failure:
            if not changes:
                raise
            self._failure = failure  # what was read before it is delivered first
            return Read(changes, ReadEnd.DRAINED)

    def close(self, *, timeout_s: float) -> None:
        """End the server's cursor; a server that does not answer will end it by itself."""
        with contextlib.suppress(PyMongoError), pymongo.timeout(timeout_s):
            self._intake.stream.close()

    def _take(self, changes: list[Change], limits: ReadLimits) -> Read:
        try:
            return self._intake.take(changes, limits)
        except InvalidBSON:
            behind = Position(resume_token=changes[-1]["_id"]) if changes else self._behind
            self._intake = self._reopened_raw(behind)
            return self._intake.take(changes, limits)

    def _moved_behind(self, read: Read) -> Read:
        token = read.changes[-1]["_id"] if read.changes else read.resume_token
        if token is not None:
            self._behind = Position(resume_token=token)
        return read


def ended(stream: Stream, changes: list[Change]) -> Read:
    """What None from `try_next` means: an empty answer, or an invalidate that was hidden."""
    if not stream.alive:
        return Read(changes, ReadEnd.INVALIDATED)
    return Read(changes, ReadEnd.EMPTY, stream.resume_token)


def end_of_batch(stream: Stream, oldest_s: float, limits: ReadLimits) -> ReadEnd | None:
    """Whether a read ends where the server's batch ends; None to wait for more."""
    if not stream.alive:
        return ReadEnd.INVALIDATED
    old_enough = time.monotonic() - oldest_s >= limits.max_age_s
    return ReadEnd.DRAINED if old_enough else None
