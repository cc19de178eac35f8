"""What the answers of a user's `deliver` mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes import ManualClock, ScriptedSource, insert
from tidemark.errors import DeliveryFailed, StoreUnavailable
from tidemark.model import Batch
from tidemark.ports import Outcome
from tidemark.sinks.function import ALLOWED, BadAnswer, ChangeFailed, DeliverStopped, FunctionSink


def batch_of(count: int) -> Batch:
    source = ScriptedSource(ManualClock(), [insert(number) for number in range(count)])
    return Batch("orders", list(source.changes.values()), fencing_token=7)


def answered(answer: Any, count: int = 3) -> Outcome:
    """What becomes of a batch to which `deliver` answers so."""
    return FunctionSink(lambda _: answer).deliver(batch_of(count), deadline_s=0)


def failures(*names: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}


def test_returning_nothing_means_delivered() -> None:
    assert answered(None) == Outcome(3)


def test_naming_nobody_means_delivered() -> None:
    assert answered(failures()) == Outcome(3)


def test_the_function_sees_the_batch() -> None:
    seen: list[Batch] = []
    FunctionSink(seen.append).deliver(batch_of(2), deadline_s=0)

    assert (len(seen[0]), seen[0].stream, seen[0].fencing_token) == (2, "orders", 7)


@pytest.mark.parametrize(("failed", "delivered"), [([0], 0), ([1], 1), ([2, 1], 1), ([2], 2)])
def test_the_batch_fails_from_the_first_named_change_on(failed: list[int], delivered: int) -> None:
    """As with AWS's own stream sources."""
    batch = batch_of(3)
    names = [batch.change_id(batch[index]) for index in failed]
    outcome = FunctionSink(lambda _: failures(*names)).deliver(batch, deadline_s=0)

    assert (outcome.delivered, outcome.named) == (delivered, True)
    assert isinstance(outcome.error, ChangeFailed)


def test_raising_fails_the_whole_batch_with_that_error() -> None:
    mistake = ValueError("secret")

    def deliver(_: Batch) -> None:
        raise mistake

    assert FunctionSink(deliver).deliver(batch_of(3), deadline_s=0) == Outcome(0, mistake)


def raised(error: Exception, count: int = 3) -> Outcome:
    """What becomes of a batch of which `deliver` raises so."""

    def deliver(_: Batch) -> None:
        raise error

    return FunctionSink(deliver).deliver(batch_of(count), deadline_s=0)


@pytest.mark.parametrize("delivered", [0, 1, 3])
def test_a_failed_target_says_how_many_were_delivered_before(delivered: int) -> None:
    """They are progress, and nobody is named: all of them may be."""
    down = DeliveryFailed("the shop is down", delivered=delivered)
    assert raised(down) == Outcome(delivered, down)


def test_a_failed_target_that_says_no_number_delivered_nothing() -> None:
    down = DeliveryFailed("the shop is down")
    assert raised(down) == Outcome(0, down)


class ShopDown(DeliveryFailed):
    """A user's own, whose construction does not call ours."""

    def __init__(self) -> None:
        Exception.__init__(self, "down")


def test_a_users_own_kind_of_it_is_one() -> None:
    outcome = raised(ShopDown())
    assert (outcome.delivered, type(outcome.error)) == (0, ShopDown)


@pytest.mark.parametrize("delivered", [-1, 4, 10**9, True, 1.0, "2", None], ids=repr)
def test_a_number_that_cannot_be_true_delivers_nothing_and_blames_nobody(delivered: Any) -> None:
    """G1: to believe that four of three were delivered may lose three."""
    outcome = raised(DeliveryFailed("card 4000", delivered=delivered))

    assert (outcome.delivered, outcome.named) == (0, False)
    assert isinstance(outcome.error, DeliveryFailed)
    assert "no number of changes from 0 to 3" in str(outcome.error)
    assert "4000" not in str(outcome.error)
    assert str(outcome.error.__cause__) == "card 4000"


def test_only_a_failed_delivery_has_a_number() -> None:
    """Another error that has one by chance says nothing by it."""
    error = StoreUnavailable("down")
    error.delivered = 2  # type: ignore[attr-defined]
    assert raised(error) == Outcome(0, error)


def test_a_delivery_that_does_not_end_may_be_a_changes_doing() -> None:
    assert FunctionSink(print).may_hang_on_a_change is True


class Cancelled(BaseException):
    """As a library of the user's may have it."""


STOPS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Cancelled]


@pytest.mark.parametrize("stop", STOPS)
def test_whatever_deliver_raises_is_a_failed_delivery(stop: type[BaseException]) -> None:
    """G8: beyond the run Python would print its message; it is kept as the cause alone."""

    def deliver(_: Batch) -> None:
        raise stop("card 4000")

    outcome = FunctionSink(deliver).deliver(batch_of(1), deadline_s=0)

    assert outcome.delivered == 0
    assert isinstance(outcome.error, DeliverStopped)
    assert str(outcome.error) == f"deliver raised {stop.__name__}, which is no Exception"
    assert isinstance(outcome.error.__cause__, stop)


@pytest.mark.parametrize(
    "answer",
    [
        True,
        False,
        0,
        3,
        "ok",
        "",
        [],
        {},
        (),
        object(),
        {"batchItemFailures": None},
        {"batchItemFailures": "abc"},
        {"batchItemFailures": {}},
        {"batchItemFailures": [], "more": 1},
        {"batchItemFailure": []},
        failures(""),
        failures("f" * 64),
        failures(None),
        failures(5),
        {"batchItemFailures": ["f" * 64]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{}]},
    ],
    ids=repr,
)
def test_any_other_answer_fails_the_batch_and_says_what_is_allowed(answer: Any) -> None:
    outcome = answered(answer)

    assert (outcome.delivered, outcome.named) == (0, False)
    assert isinstance(outcome.error, BadAnswer)
    assert ALLOWED in str(outcome.error)


def test_a_bad_answer_is_described_by_its_type_alone() -> None:
    """G8: its content may be private."""
    outcome = answered({"card": "4000-0000"})

    assert "4000" not in str(outcome.error)
    assert "dict" in str(outcome.error)


def test_one_unknown_name_among_known_ones_fails_the_whole_batch() -> None:
    """Nobody can say what such an answer means."""
    batch = batch_of(2)
    answer = failures(batch.change_id(batch[1]), "0" * 64)
    outcome = FunctionSink(lambda _: answer).deliver(batch, deadline_s=0)

    assert outcome.delivered == 0
    assert "1 of the ids" in str(outcome.error)


def test_a_change_is_known_by_its_name_even_when_it_was_taken_apart() -> None:
    batch = batch_of(3)
    name = batch.change_id(batch[2])

    def plunder(given: Batch) -> dict[str, Any]:
        for change in given:
            change.pop("_id")  # type: ignore[attr-defined]
        return failures(name)

    outcome = FunctionSink(plunder).deliver(batch, deadline_s=0)

    assert (outcome.delivered, outcome.named) == (2, True)
