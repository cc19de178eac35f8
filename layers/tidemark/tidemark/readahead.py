"""Reading the next batch while the last one is delivered: at most one ahead.

It pays where a sink waits on the network and the stream is behind (docs/performance.md). Nothing of
the order of effects changes: a run still sees its reads one after the other, and stores a position
only behind what it has delivered.
"""

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace

from bson.timestamp import Timestamp

from tidemark.model import Read, ReadEnd, Token
from tidemark.ports import Reader, ReadLimits

MORE_MAY_WAIT = {ReadEnd.FULL, ReadEnd.DRAINED}
LEAST_S = 0.1  # a timeout of 0 would mean none


def one_thread() -> Executor:
    """A thread for one reader's reads."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")


class ReadAhead:
    """A `Reader` whose next read is under way while the caller works on the last one.

    Not after an empty answer: there is nothing to work on, and the run may be about to end.
    """

    def __init__(self, reader: Reader, executor: Executor) -> None:
        self._reader = reader
        self._executor = executor
        self._ahead: Future[Read] | None = None

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """The next changes, perhaps read already; an error of that read is raised here."""
        until_s = time.monotonic() + timeout_s
        under_way, self._ahead = self._ahead, None
        read = under_way.result() if under_way else self._reader.read(limits, timeout_s=timeout_s)
        if read.end in MORE_MAY_WAIT:
            left_s = max(LEAST_S, until_s - time.monotonic())
            max_age_s = max(0.0, limits.max_age_s - (timeout_s - left_s))
            ahead = replace(limits, max_age_s=max_age_s)  # or it would be cut off in its wait
            self._ahead = self._executor.submit(self._reader.read, ahead, timeout_s=left_s)
        return read

    @property
    def opened_at(self) -> Timestamp | None:
        """The server's time as it opened the stream."""
        return self._reader.opened_at

    @property
    def opening_token(self) -> Token | None:
        """The post-batch token of the opening."""
        return self._reader.opening_token

    @property
    def operation_time(self) -> Timestamp | None:
        """The server's time at its last answer."""
        return self._reader.operation_time

    def interrupt(self, *, timeout_s: float) -> None:
        """Let the read under way end soon."""
        self._reader.interrupt(timeout_s=timeout_s)

    def close(self, *, timeout_s: float) -> bool:
        """End a read under way and wait for it; then end the server's cursor."""
        if self._ahead is not None and not self._ahead.done():
            self._reader.interrupt(timeout_s=timeout_s)
        self._executor.shutdown(wait=True)
        return self._reader.close(timeout_s=timeout_s)
