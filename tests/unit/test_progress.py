"""What a run has delivered, and when that is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from fakes import ManualClock, MemoryStore
from tidemark.lease import HeldLease, LeaseTerms
from tidemark.model import NO_ATTEMPTS, Attempts, Checkpoint, NotAcquired, Position
from tidemark.progress import Progress, checkpoint_due, wall_time_ms

NOW = datetime(2026, 1, 31, 6, tzinfo=UTC)
START = Checkpoint(Position(operation_time=Timestamp(1, 1)), "{}", "f")


class Bench:
    """The progress of one run that began at `START`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        terms = LeaseTerms(30_000, 10_000_000_000_000)
        taken = HeldLease.take(self.store, self.clock, terms, "orders")
        assert not isinstance(taken, NotAcquired)
        self.progress = Progress(taken[0], self.clock, None, NO_ATTEMPTS)
        self.progress.begin(START)
        self.store.requests.clear()

    @property
    def stored(self) -> Checkpoint:
        """The stored checkpoint."""
        checkpoint = self.store.stored("orders").checkpoint
        assert checkpoint is not None
        return checkpoint


@pytest.fixture
def bench() -> Bench:
    return Bench()


def change(number: int) -> dict[str, Any]:
    return {
        "_id": {"_data": str(number)},
        "clusterTime": Timestamp(number, 1),
        "wallTime": NOW,
    }


def test_progress_is_behind_the_last_delivered_change(bench: Bench) -> None:
    """G1: with what is known of that change."""
    bench.progress.delivered([change(1), change(2)])
    bench.progress.save()

    assert bench.stored.position == Position(resume_token={"_data": "2"})
    assert bench.stored.cluster_time == Timestamp(2, 1)
    assert bench.stored.change_wall_time_ms == int(NOW.timestamp() * 1000)
    assert bench.stored.checkpointed_at_ms == bench.clock.time_ms()


def test_delivering_nothing_moves_nothing_and_forgets_no_attempt(bench: Bench) -> None:
    bench.progress.attempts = Attempts(2, "a", 1)
    bench.progress.delivered([])

    assert bench.progress.latest == bench.progress.stored
    assert bench.progress.attempts.count == 2


def test_delivery_forgets_the_attempts_of_what_is_passed(bench: Bench) -> None:
    bench.progress.attempts = Attempts(2, "a", 1)
    bench.progress.delivered([change(1)])

    assert bench.progress.attempts == NO_ATTEMPTS


def test_a_quiet_token_keeps_what_is_known_of_the_last_change(bench: Bench) -> None:
    """G6: the position moves, the last change's time does not."""
    bench.progress.delivered([change(1)])
    bench.progress.moved_to({"_data": "quiet"})
    bench.progress.release()

    assert bench.stored.position == Position(resume_token={"_data": "quiet"})
    assert bench.stored.cluster_time == Timestamp(1, 1)


def test_a_release_without_progress_writes_no_position(bench: Bench) -> None:
    before = bench.stored
    bench.clock.advance_s(5)
    bench.progress.release()

    assert bench.stored == before
    assert bench.store.expires_at_ms("orders") == 0


def test_the_position_must_be_known() -> None:
    bench = Bench()
    blank = Progress(bench.progress._held, bench.clock, None, NO_ATTEMPTS)

    with pytest.raises(AssertionError, match="no position yet"):
        _ = blank.position


def test_delivered_changes_are_stored_once_the_interval_is_over(bench: Bench) -> None:
    bench.progress.delivered([change(1)])
    bench.progress.save_if_due(2)
    assert bench.store.requests == []

    bench.clock.advance_s(2)
    bench.progress.save_if_due(2)
    assert bench.store.requests == ["save"]

    bench.clock.advance_s(2)
    bench.progress.save_if_due(2)  # nothing new
    assert bench.store.requests == ["save"]


def test_a_quiet_token_waits_for_the_leases_renewal(bench: Bench) -> None:
    """No write each second: half of the holder's 28 s of a lease of 30 s."""
    bench.progress.moved_to({"_data": "quiet"})
    for _ in range(13):
        bench.clock.advance_s(1)
        bench.progress.save_if_due(0)
    assert bench.store.requests == []

    bench.clock.advance_s(1)
    bench.progress.save_if_due(0)

    assert bench.store.requests == ["save"]
    assert bench.stored.position == Position(resume_token={"_data": "quiet"})


@pytest.mark.parametrize(
    ("holds_changes", "since_last_s", "renewal_due", "due"),
    [
        (True, 1.0, False, True),
        (True, 0.9, False, False),
        (False, 99.0, False, False),
        (False, 0.0, True, True),
        (True, 0.0, True, True),
    ],
)
def test_when_a_checkpoint_is_due(
    *, holds_changes: bool, since_last_s: float, renewal_due: bool, due: bool
) -> None:
    assert due is checkpoint_due(
        holds_changes=holds_changes,
        since_last_s=since_last_s,
        interval_s=1.0,
        renewal_due=renewal_due,
    )


@pytest.mark.parametrize(
    ("change", "expected_ms"),
    [
        ({"wallTime": NOW}, 1_769_839_200_000),
        ({"wallTime": NOW.replace(tzinfo=None)}, 1_769_839_200_000),
        ({"wallTime": DatetimeMS(5)}, 5),
        ({"clusterTime": Timestamp(7, 3)}, 7_000),
        ({}, None),
    ],
)
def test_a_change_happened_at_its_wall_time_or_its_cluster_time(
    change: dict[str, Any], expected_ms: int | None
) -> None:
    """Servers before 6.0 send no `wallTime`."""
    assert wall_time_ms(change) == expected_ms
