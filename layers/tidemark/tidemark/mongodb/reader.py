"""One open change stream, read by one thread.

Facts about the driver that this rests on, in `pymongo/synchronous/change_stream.py` (4.20):

- `try_next()` makes at most one getMore and one resume. None is an empty answer of a getMore, or
  comes of the resume: only the former says something of the oplog's end.
- `resume_token` is a deep copy. It is the post-batch token after None *and* after the last change
  of a server batch, so it is read only after None (G6), and when the server has closed the cursor.
- The stream is no longer `alive` once the closing answer is used up. Whether its last change was
  the invalidate cannot be seen: a pipeline may drop or rewrite `operationType`, and mongod closes
  one answer late where the invalidate was the last of a full batch.
- The stream survives a `pymongo.timeout`, but a document that cannot be decoded closes it.
- A getMore that is cut off goes on in the server, and the driver does not kill its cursor.
- `CommandCursor.batch_size(1)` makes 2 of 1 (`cursor_shared.py`): the attribute is set instead.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias

import pymongo
from bson.errors import InvalidBSON
from bson.timestamp import Timestamp
from pymongo.change_stream import ChangeStream
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from tidemark.errors import SourceUnavailable, TidemarkError
from tidemark.model import Change, Position, Read, ReadEnd, Token
from tidemark.mongodb.answer_size import AnswerSize
from tidemark.mongodb.errors import translated
from tidemark.mongodb.replies import LeftCursor, Replies, Reply
from tidemark.ports import ReadLimits

Stream: TypeAlias = ChangeStream[Any]
Kill: TypeAlias = Callable[[LeftCursor], None]
KILL_S = 1.0
ALMOST_S = 0.1  # the driver gives up a round trip before the time is over


class SlowAnswer(Exception):
    """An answer did not come soon: the server may be filling it for long."""


class Answers:
    """What the server has said to one stream beside the changes.

    `buffered`: how many changes of its last answer the driver still holds. `size`: how many to ask
    for. `operation_time`: the newest of a read's answers. `left`: cursors that may yet be at work.
    `closing_tells`: whether the token of a closing answer is the invalidate's own.
    """

    def __init__(
        self,
        replies: Replies,
        opened: Reply | None,
        size: AnswerSize,
        closing_tells: Callable[[Token], bool],
    ) -> None:
        self.buffered = 0
        self.until_s = 0.0  # when the read under way must have ended
        self.size = size
        self.operation_time: Timestamp | None = None
        self.opening_token = _plain(opened.token) if opened else None
        self.left: list[LeftCursor] = []
        self._replies = replies
        self._last: Reply | None = None
        self._closing_tells = closing_tells
        self._note(opened)

    def try_next(self, stream: Stream) -> tuple[Any, Reply | None]:
        """The next change, None where there is none; and the reply that it came with, if any."""
        if self.buffered:  # the driver makes no request
            return stream.try_next(), None
        if stream.alive and not stream._cursor.alive:
            stream._resume()  # the driver would, too late for the new cursor's size
        stream._cursor._batch_size = self.size.next
        began_s = time.monotonic()
        change = self._patiently(stream.try_next, began_s)
        reply = self.hear()
        if reply is not None and reply.is_get_more:
            self.size.note(reply.size, time.monotonic() - began_s)
        return change, reply

    def _patiently(self, try_next: Callable[[], Any], began_s: float) -> Any:
        """Wait for the next answer. Raises SlowAnswer where it does not come soon."""
        patience_s = self.size.patience_s(self.until_s - began_s)
        if patience_s is None:
            return try_next()
        try:
            with pymongo.timeout(patience_s):
                return try_next()
        except PyMongoError as error:
            is_own = patience_s - ALMOST_S <= time.monotonic() - began_s
            if error.timeout and is_own and time.monotonic() < self.until_s - ALMOST_S:
                raise SlowAnswer from error
            raise

    def begin_read(self, until_s: float) -> None:
        """A read begins: its own answers count, and its own failures."""
        self.until_s, self.operation_time = until_s, None
        self._replies.take_lost()

    def take_over(self, former: "Answers") -> None:
        """Go on for another intake of the same read."""
        self.until_s, self.size = former.until_s, former.size
        self.left += former.left

    def hear(self) -> Reply | None:
        """The reply that came since the last call, None where none did."""
        reply = self._replies.take()
        self._note(reply)
        return reply

    def _note(self, reply: Reply | None) -> None:
        if reply is not None:
            self._last, self.buffered = reply, reply.size
            self.operation_time = reply.operation_time or self.operation_time

    def taken(self, count: int) -> None:
        """Note that the driver has given out `count` of the changes that it held."""
        self.buffered = max(0, self.buffered - count)

    def note_left(self) -> None:
        """Note the cursors that this thread's commands have left behind."""
        self.left += self._replies.take_left()

    def took_too_long(self, failure: TidemarkError, until_s: float) -> bool:
        """Whether a read failed because its own time was over, and for no other reason.

        Not where the driver found no server, or could not open the stream again.
        """
        cause, was_lost = failure.__cause__, self._replies.take_lost()
        return (
            isinstance(failure, SourceUnavailable)
            and isinstance(cause, PyMongoError)
            and cause.timeout
            and not isinstance(cause, ServerSelectionTimeoutError)
            and not was_lost
            and time.monotonic() >= until_s - ALMOST_S
        )

    def closed(self, stream: Stream, changes: Sequence[Change]) -> Read:
        """The read that ends with the server's closing of the cursor."""
        last, token = self._last, _plain(stream.resume_token)
        brings = last is not None and last.is_closing and last.token is not None
        if not brings or token is None or not self._closing_tells(token):
            token = None
        return Read(changes, ReadEnd.INVALIDATED, token)

    def ended(self, stream: Stream, changes: Sequence[Change], reply: Reply | None) -> Read:
        """What None from `try_next` means: an end, an empty answer, or the driver's own resume."""
        if not stream.alive:
            return self.closed(stream, changes)
        if reply is not None and reply.is_empty:
            return Read(changes, ReadEnd.EMPTY, _plain(stream.resume_token))
        return Read(changes, ReadEnd.DRAINED)

    def end_of_batch(
        self, stream: Stream, changes: Sequence[Change], oldest_s: float, limits: ReadLimits
    ) -> Read | None:
        """How a read ends where the server's batch ends; None to wait for more."""
        if not stream.alive:
            return self.closed(stream, changes)
        old_enough = time.monotonic() - oldest_s >= limits.max_age_s
        return Read(changes, ReadEnd.DRAINED) if old_enough else None


class Intake(Protocol):
    """How changes are taken from a stream; those taken are in `changes` even when it raises."""

    stream: Stream
    answers: Answers

    def take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Append to `changes` until the limits, an empty answer or the cursor's end."""


class DirectIntake:
    """Takes changes at the driver's own speed.

    While the driver still holds changes of the server's last answer they are taken without a look
    at clock or limits: that makes no request and cannot wait.
    """

    def __init__(self, stream: Stream, answers: Answers) -> None:
        self.stream = stream
        self.answers = answers

    def take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Append decoded changes; see `Intake`."""
        try_next, answers, oldest_s = self.stream.try_next, self.answers, 0.0
        while (room := limits.max_changes - len(changes)) > 0:
            change, reply = answers.try_next(self.stream)
            if change is None:
                return answers.ended(self.stream, changes, reply)
            oldest_s = oldest_s or time.monotonic()
            changes.append(change)
            at_once = min(max(0, answers.buffered - 1), room - 1)
            changes.extend(islice(iter(try_next, None), at_once))
            answers.taken(1 + at_once)
            if not answers.buffered and (
                end := answers.end_of_batch(self.stream, changes, oldest_s, limits)
            ):
                return end
        return Read(changes, ReadEnd.FULL)


class MongoReader:
    """The `Reader` of one change stream.

    `reopened_raw` gives an intake, at a position, that survives what cannot be decoded. `kill`
    ends a cursor in the server, on another connection.
    """

    def __init__(
        self,
        intake: Intake,
        position: Position,
        reopened_raw: Callable[[Position], Intake],
        kill: Kill,
    ) -> None:
        self.opened_at = intake.answers.operation_time
        self.opening_token = intake.answers.opening_token
        self._intake = intake
        self._after = position
        self._reopened_raw = reopened_raw
        self._kill = kill
        self._failure: TidemarkError | None = None

    @property
    def operation_time(self) -> Timestamp | None:
        """The server's time at the last read's last answer; see `ports.Reader`."""
        return self._intake.answers.operation_time

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """The next changes; see `ports.Reader`."""
        if self._failure is not None:
            raise self._failure
        changes: list[Change] = []
        until_s = time.monotonic() + timeout_s
        self._intake.answers.begin_read(until_s)
        try:
            with translated("reading the stream"), pymongo.timeout(timeout_s):
                return self._moved(self._take(changes, limits))
        except TidemarkError as failure:
            if self._intake.answers.took_too_long(failure, until_s):
                return Read(changes, ReadEnd.GIVEN_UP)
            if not changes:
                raise
            self._failure = failure  # what was read before it is delivered first
            return Read(changes, ReadEnd.DRAINED)
        finally:
            self._intake.answers.note_left()

    def close(self, *, timeout_s: float) -> bool:
        """End the server's cursor, and the scans left behind; see `ports.Reader`."""
        with contextlib.suppress(PyMongoError), pymongo.timeout(timeout_s):
            self._intake.stream.close()
        return self._kill_left(timeout_s)

    def interrupt(self, *, timeout_s: float) -> None:
        """End the read under way, from another thread; see `ports.Reader`."""
        cursor = self._intake.stream._cursor
        if cursor.cursor_id:
            self._kill_one(LeftCursor(cursor.cursor_id, cursor._ns, cursor.address), timeout_s)

    def _kill_left(self, timeout_s: float) -> bool:
        """Whether every scan that was left behind is ended."""
        left = self._intake.answers.left
        while left and self._kill_one(left[-1], timeout_s):
            left.pop()
        return not left

    def _kill_one(self, cursor: LeftCursor, timeout_s: float) -> bool:
        try:
            with pymongo.timeout(timeout_s):
                self._kill(cursor)
        except (PyMongoError, TidemarkError):
            return False
        return True

    def _take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Take changes, however often an answer does not come or cannot be decoded."""
        while True:
            try:
                return self._intake.take(changes, limits)
            except SlowAnswer:
                self._intake.answers.size.give_up()
                self._intake.answers.note_left()
                self._kill_left(KILL_S)
            except InvalidBSON:
                after = Position(resume_token=changes[-1]["_id"]) if changes else self._after
                former, self._intake = self._intake, self._reopened_raw(after)
                self._intake.answers.take_over(former.answers)

    def _moved(self, read: Read) -> Read:
        token = read.changes[-1]["_id"] if read.changes else read.resume_token
        if token is not None:
            self._after = Position(resume_token=token)
        return read


def _plain(token: Token | None) -> Token | None:
    """A token that can be compared: a raw document equals no dictionary."""
    return None if token is None else dict(token)
