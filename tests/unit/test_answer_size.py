"""How many changes to ask a server for, that fills its answers before it sends them (G11)."""

from __future__ import annotations

import pytest

from tidemark.mongodb.answer_size import (
    LARGEST,
    PATIENCE_S,
    QUICK_IN_A_ROW,
    QUICK_S,
    UNLIMITED,
    AnswerSize,
)

AWAIT_S = 1.0
QUICK = AWAIT_S + QUICK_S
SLOW = QUICK + 0.001


def given_up() -> AnswerSize:
    """After an answer that did not come."""
    size = AnswerSize(await_s=AWAIT_S)
    size.give_up()
    return size


def grow(size: AnswerSize, times: int) -> None:
    """Let so many full answers come quickly."""
    for _ in range(times):
        size.note(size.next, QUICK)


@pytest.mark.parametrize(("changes", "took_s"), [(0, 0.1), (5_000, QUICK), (1, 800.0)])
def test_a_healthy_server_is_asked_for_all_that_it_likes(changes: int, took_s: float) -> None:
    size = AnswerSize(await_s=AWAIT_S)
    size.note(changes, took_s)
    assert size.next == UNLIMITED


def test_an_answer_that_does_not_come_is_asked_for_one_change() -> None:
    assert given_up().next == 1


def test_one_change_is_waited_for_as_long_as_there_is_time() -> None:
    """G11: it is the least that a server can be asked for."""
    assert given_up().patience_s(800.0) is None


@pytest.mark.parametrize(("timeout_s", "patience_s"), [(10.0, 2.0), (50.0, 6.0), (900.0, 6.0)])
def test_more_than_one_is_waited_for_a_share_of_the_time(
    timeout_s: float, patience_s: float
) -> None:
    """G11: beyond the await, which every quiet answer takes, and never for long."""
    size = AnswerSize(await_s=AWAIT_S)
    assert size.patience_s(timeout_s) == patience_s <= AWAIT_S + PATIENCE_S
    limited = given_up()
    grow(limited, QUICK_IN_A_ROW)
    assert limited.patience_s(timeout_s) == patience_s


def test_quick_full_answers_in_a_row_double_the_size() -> None:
    size = given_up()
    grow(size, QUICK_IN_A_ROW - 1)
    assert size.next == 1
    grow(size, 1)
    assert size.next == 2
    grow(size, QUICK_IN_A_ROW)
    assert size.next == 4


@pytest.mark.parametrize(("changes", "took_s"), [(1, SLOW), (0, 0.1)], ids=["slow", "not full"])
def test_an_answer_that_is_slow_or_not_full_begins_the_row_again(
    changes: int, took_s: float
) -> None:
    size = given_up()
    grow(size, QUICK_IN_A_ROW - 1)
    size.note(changes, took_s)
    grow(size, QUICK_IN_A_ROW - 1)
    assert size.next == 1
    grow(size, 1)
    assert size.next == 2


def test_a_size_that_has_grown_is_given_up_to_one_again() -> None:
    size = given_up()
    grow(size, 3 * QUICK_IN_A_ROW + 1)
    size.give_up()
    assert size.next == 1
    grow(size, QUICK_IN_A_ROW - 1)
    assert size.next == 1


def test_after_an_answer_was_given_up_there_is_a_largest() -> None:
    """G11: a server that was slow once is never asked without a limit again."""
    size = given_up()
    grow(size, 20 * QUICK_IN_A_ROW)
    assert size.next == LARGEST


def test_an_isolated_run_asks_for_its_own_size_whatever_comes() -> None:
    size = AnswerSize(await_s=AWAIT_S, fixed=1)
    assert (size.next, size.patience_s(800.0)) == (1, None)
    for took_s in (QUICK, QUICK, QUICK, SLOW):
        size.note(1, took_s)
    assert size.next == 1
