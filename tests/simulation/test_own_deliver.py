"""The crash suite against a `deliver` of one's own: copy, and put your destination in."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import deliver as handler
from simulation.replay import Violated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidemark.model import Batch, Change

CrashSuite = Any  # the fixture's type is for its conftest to say


def test_the_deliver_of_this_repository_survives_every_crash(crash_suite: CrashSuite) -> None:
    """G1 to G4 with the function that is deployed."""
    figures = crash_suite(handler.deliver, document=lambda n: {"total": n})

    assert figures.schedules == 100
    assert figures.crashes > 20
    assert figures.duplicates > 0


def test_a_destination_that_is_keyed_by_the_change_has_everything(crash_suite: CrashSuite) -> None:
    ledger: dict[str, Any] = {}

    def deliver(batch: Batch) -> None:
        for change in batch:
            ledger[batch.change_id(change)] = change.get("fullDocument")

    def check(changes: Sequence[Change]) -> None:
        assert [dict(change.get("fullDocument") or {}) for change in changes] == [
            document or {} for document in ledger.values()
        ]

    figures = crash_suite(deliver, document=lambda n: {"total": n}, begin=ledger.clear, check=check)

    assert figures.deliveries > 100


def test_a_deliver_that_says_delivered_too_early_is_found_out(crash_suite: CrashSuite) -> None:
    table: list[Change] = []
    waiting: list[Change] = []

    def deliver(batch: Batch) -> None:
        table.extend(waiting)  # the batch before: this one is written when the next one comes
        waiting[:] = batch

    def begin() -> None:
        table.clear()
        waiting.clear()

    def check(changes: Sequence[Change]) -> None:
        assert all(change in table for change in changes), "changes are missing in the table"

    with pytest.raises(Violated, match="changes are missing in the table"):
        crash_suite(deliver, begin=begin, check=check)


def test_an_interruption_that_deliver_swallows_is_no_delivery(crash_suite: CrashSuite) -> None:
    """G1: of a killed process no code goes on, not even one that catches everything."""
    table: list[Change] = []

    def deliver(batch: Batch) -> None:
        with suppress(BaseException):
            table.extend(batch)

    def check(changes: Sequence[Change]) -> None:
        assert all(change in table for change in changes), "changes are missing in the table"

    assert crash_suite(deliver, begin=table.clear, check=check).crashes > 20


def failing_once() -> Callable[[Batch], None]:
    """A deliver that fails at its first call."""
    calls: list[int] = []

    def deliver(batch: Batch) -> None:
        calls.append(len(batch))
        if len(calls) == 1:
            raise ConnectionError

    return deliver


def test_a_failing_deliver_gets_its_changes_again(crash_suite: CrashSuite) -> None:
    arrived: list[int] = []

    crash_suite(failing_once(), check=lambda changes: arrived.append(len(changes)))

    assert sum(arrived) > 100
