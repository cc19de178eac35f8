"""How far behind, and how long until it is lost: never lower, and never made up (G12)."""

from __future__ import annotations

import pytest
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tidemark.lag import NO_SERVER_TIME, UNREADABLE, Known, headroom_s, lag_ms
from tidemark.model import Observed, OplogWindow

HEARD_MS = 1_800_000_000_000
NOW = Timestamp(1_700_000_000, 5)
SECONDS = st.integers(min_value=1, max_value=2**31)
INCREMENTS = st.integers(min_value=0, max_value=2**31)


def lag(position: Timestamp | None, *, later_ms: int = 0, is_at_end: bool = False) -> Known:
    """The lag of a position, so long after the server has told `NOW`."""
    observed = Observed(NOW, HEARD_MS)
    return lag_ms(position, observed, HEARD_MS + later_ms, is_at_end=is_at_end)


def test_a_position_of_the_servers_own_time_has_no_lag() -> None:
    assert lag(NOW) == Known(0)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (Timestamp(NOW.time, 4), 1_000),
        (Timestamp(NOW.time - 1, 5), 2_000),
        (Timestamp(NOW.time - 60, 9_999), 61_000),
        (Timestamp(NOW.time, 6), 0),  # `now` is one increment ahead of the server's last entry
        (Timestamp(NOW.time + 9, 1), 0),
    ],
)
def test_two_timestamps_that_differ_are_a_second_further_apart(
    position: Timestamp, value: int
) -> None:
    """G12: a second has many increments, and the clock may be at its end."""
    assert lag(position) == Known(value)


def test_the_servers_time_runs_on_since_it_was_heard() -> None:
    """G12: of a stream that nobody reads."""
    assert lag(NOW, later_ms=90_000) == Known(90_000)
    assert lag(Timestamp(NOW.time - 1, 5), later_ms=90_000) == Known(92_000)


def test_a_clock_that_was_set_back_makes_no_lag_smaller() -> None:
    assert lag(Timestamp(NOW.time - 1, 5), later_ms=-90_000) == Known(2_000)


def test_a_run_that_has_proved_to_be_caught_up_is_not_aged() -> None:
    assert lag(NOW, later_ms=90_000, is_at_end=True) == Known(0)


def test_what_is_not_known_is_told_as_unknown() -> None:
    """G12: a reason in the place of 0."""
    assert lag(None) == Known(None, UNREADABLE)
    assert lag_ms(NOW, None, HEARD_MS, is_at_end=False) == Known(None, NO_SERVER_TIME)
    assert lag(None, is_at_end=True) == Known(None, UNREADABLE)


@given(SECONDS, INCREMENTS, SECONDS, INCREMENTS, st.integers(0, 999), st.integers(0, 999))
def test_a_lag_is_never_below_the_true_one(
    seconds: int, increment: int, later_seconds: int, later_increment: int, ms: int, later_ms: int
) -> None:
    """G12: whatever the milliseconds are that a timestamp does not hold."""
    position, server = Timestamp(seconds, increment), Timestamp(later_seconds, later_increment)
    known = lag_ms(position, Observed(server, HEARD_MS), HEARD_MS, is_at_end=False)
    true_ms = (later_seconds * 1000 + later_ms) - (seconds * 1000 + ms)
    assert known.value is not None
    assert known.value >= (true_ms if position < server else 0)
    assert known.value <= max(0, true_ms) + 2_000


def test_headroom_is_what_is_between_the_oplogs_beginning_and_the_position() -> None:
    oldest = OplogWindow(Timestamp(NOW.time - 3_600, 1))
    assert headroom_s(NOW, oldest) == Known(3_600)


def test_a_position_that_is_about_to_be_lost_has_no_headroom() -> None:
    assert headroom_s(NOW, OplogWindow(NOW)) == Known(0)
    assert headroom_s(NOW, OplogWindow(Timestamp(NOW.time + 9, 1))) == Known(0)


def test_headroom_that_is_not_known_has_the_reason() -> None:
    """G12."""
    assert headroom_s(NOW, OplogWindow(None, "no privilege")) == Known(None, "no privilege")
    assert headroom_s(None, OplogWindow(NOW)) == Known(None, UNREADABLE)
