"""What a run's reads have shown: whether the stream is caught up, and how long was scanned.

A stream is caught up when it has passed the time that the run began with (G12): the server's
`operationTime` in its answer to the run's first opening. Only the token of an empty getMore can
tell: it is after everything that the server has scanned. Silence proves nothing where tokens have
a time, for a server may scan for long, or answer empty while changes wait. Where they have no known
form (Amazon DocumentDB), silence is the only evidence there is.
"""

from typing import TYPE_CHECKING

from tidemark.model import Position, Read, ReadEnd, Token
from tidemark.ports import Reader, Source
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from bson.timestamp import Timestamp

IDLE_S = 0.4  # of silence, where nothing else tells


class Reading:
    """The reads of one run.

    `opened_at`: the server's time as the run first opened the stream. `scan_s`: how long reads took
    that had not come to the end. `has_reached_end`: whether one has; `is_at_end`: the last one.
    """

    def __init__(self, stream: StreamSettings, source: Source, await_s: float) -> None:
        self.opened_at: Timestamp | None = None
        self.scan_s = 0.0
        self.has_reached_end = False
        self.is_at_end = False
        self._idle_s = stream.idle_s
        self._source = source
        self._await_s = await_s
        self._quiet_since_s: float | None = None
        self._unmoved: Token | None = None  # the opening's, where that proves nothing

    def opened(self, reader: Reader, now_s: float, *, is_sharded: bool) -> None:
        """The stream was opened: the server's first time in the run counts.

        Behind mongos the opening's own token may stand before changes of its very time, which a
        cold shard holds back.
        """
        self.is_at_end = False
        self.opened_at = self.opened_at or reader.opened_at
        self._unmoved = reader.opening_token if is_sharded else None
        self._quiet_since_s = now_s if self._quiet_since_s is None else self._quiet_since_s

    def begin_read(self) -> None:
        """A read begins: what the last one has shown is over."""
        self.is_at_end = False

    def is_caught_up(self, read: Read, *, took_s: float, now_s: float) -> bool:
        """Whether `read` proves that everything was read that there was when the run began."""
        if read.end is not ReadEnd.EMPTY:
            self._quiet_since_s = now_s
            self._note_scan(took_s, is_long=not read.changes or took_s > self._await_s)
            return False
        passed = self._passed_the_beginning(read)
        if passed is False:
            self._note_scan(took_s, is_long=True)
            return False
        self.has_reached_end = self.is_at_end = True
        least_s = self._idle_s if self._idle_s is not None else 0.0 if passed else IDLE_S
        return now_s - (self._quiet_since_s or 0.0) >= least_s

    def _passed_the_beginning(self, empty: Read) -> bool | None:
        """Whether an empty answer's token is past the run's first opening; None: it has no time.

        An equal time counts, unless the token may hide changes of that time.
        """
        token = empty.resume_token
        time = self._source.time_of(Position(resume_token=token)) if token is not None else None
        if time is None or self.opened_at is None:
            return None
        return time > self.opened_at or (time == self.opened_at and token != self._unmoved)

    def _note_scan(self, took_s: float, *, is_long: bool) -> None:
        self.scan_s += took_s if is_long else 0.0
