"""The Lambda deadline as an object (G5)."""

from __future__ import annotations

import time

import pytest

from fakes import ManualClock
from tidemark.budget import Budget, SystemClock


def budget(
    remaining_s: float, *, reserve_s: float = 5.0, budget_s: float | None = None
) -> tuple[float, float, float]:
    """Stop, abandon and deadline of an invocation, in seconds from its start."""
    clock = ManualClock()
    clock.advance_s(100)
    made = Budget.of_invocation(
        clock, remaining_ms=int(remaining_s * 1000), reserve_s=reserve_s, budget_s=budget_s
    )
    return made.stop_s - 100, made.abandon_s - 100, made.deadline_s - 100


def test_the_reserve_is_kept_before_the_deadline() -> None:
    assert budget(60) == (55, 59, 60)


@pytest.mark.parametrize("remaining_s", [1, 3, 10, 16, 900])
def test_a_short_invocation_still_reads_for_most_of_its_time(remaining_s: float) -> None:
    stop_s, abandon_s, deadline_s = budget(remaining_s)

    assert 0.69 * remaining_s < stop_s < abandon_s < deadline_s == remaining_s
    assert deadline_s - abandon_s <= 1


def test_a_configured_budget_shortens_the_reading_alone() -> None:
    assert budget(60, budget_s=10) == (10, 59, 60)


def test_a_configured_budget_never_eats_the_reserve() -> None:
    assert budget(60, budget_s=900) == (55, 59, 60)


def test_the_deadline_on_the_wall_clock_is_the_same_moment() -> None:
    """For leases only."""
    clock = ManualClock()
    made = Budget.of_invocation(clock, remaining_ms=60_000, reserve_s=5)

    assert made.deadline_ms == clock.time_ms() + 60_000


def test_what_is_left_turns_negative_inside_the_reserve() -> None:
    clock = ManualClock()
    made = Budget.of_invocation(clock, remaining_ms=60_000, reserve_s=5)

    assert made.left_s(clock.monotonic_s()) == 55
    clock.advance_s(56)
    assert made.left_s(clock.monotonic_s()) == -1


def test_the_systems_clock_is_the_machines() -> None:
    before_s, before_ms = time.monotonic(), time.time_ns() // 1_000_000

    assert SystemClock.monotonic_s() >= before_s
    assert SystemClock.time_ms() >= before_ms
