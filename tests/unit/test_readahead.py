"""A read that is under way before it is asked for: its limits fit the time that is left."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from fakes import ManualClock
from tidemark.model import Read, ReadEnd
from tidemark.ports import ReadLimits
from tidemark.readahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from bson.timestamp import Timestamp

    from tidemark.model import Token


class AtOnce(Executor):
    """Does it when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it now."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Slow:
    """A reader whose every read takes `seconds`; `reads` are their ages and timeouts."""

    opened_at: Timestamp | None = None
    opening_token: Token | None = None
    operation_time: Timestamp | None = None

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self.reads: list[tuple[float, float]] = []
        self._clock = clock
        self._seconds = seconds

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """Always something, and perhaps more."""
        self.reads.append((limits.max_age_s, timeout_s))
        self._clock.advance_s(self._seconds)
        return Read([], ReadEnd.DRAINED)

    def interrupt(self, *, timeout_s: float) -> None:
        """Nothing."""

    def close(self, *, timeout_s: float) -> bool:  # noqa: ARG002 - there is nothing to close
        """Nothing."""
        return True


def test_the_read_ahead_waits_for_no_more_than_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that grows old within the time of two would be cut off, on a healthy server."""
    clock = ManualClock()
    monkeypatch.setattr("tidemark.readahead.time.monotonic", clock.monotonic_s)
    reader = Slow(clock, seconds=20)
    ReadAhead(reader, AtOnce()).read(ReadLimits(10, max_age_s=30), timeout_s=41)

    assert reader.reads == [(30, 41), (10, 21)]


def test_no_age_is_left_to_the_read_behind_a_full_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr("tidemark.readahead.time.monotonic", clock.monotonic_s)
    reader = Slow(clock, seconds=31)
    ReadAhead(reader, AtOnce()).read(ReadLimits(10, max_age_s=30), timeout_s=41)

    assert reader.reads == [(30, 41), (0, 10)]
