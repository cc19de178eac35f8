"""`idempotent(deliver_one)` on the embedded DynamoDB: effectively once (G3)."""

from __future__ import annotations

import boto3
import pytest

from sink_kinds import batch_of, change
from tidemark.dynamodb import DynamoCheckpoints
from tidemark.errors import DeliveryFailed
from tidemark.idempotency import idempotent
from tidemark.model import Acquired, Batch, Change, change_id
from tidemark.sinks.function import FunctionSink


class Killed(BaseException):
    """The container is gone."""


class Effects:
    """What was done, and how often; fails at the numbers in `failing`, dies at `killing`."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failing: set[int] = set()
        self.killing: set[int] = set()

    def deliver_one(self, each: Change) -> object:
        number: int = each["fullDocument"]["n"]
        if number in self.killing:
            raise Killed
        if number in self.failing:
            raise ValueError("for a while")
        self.done.append(number)
        return {"what": object()}  # whatever a user's function returns is not stored


@pytest.fixture
def effects() -> Effects:
    return Effects()


BATCH = batch_of([change(number) for number in range(4)])


def test_a_change_that_comes_again_has_no_effect_again(effects: Effects, table: str) -> None:
    deliver = idempotent(effects.deliver_one, table=table)
    assert deliver(BATCH) is None
    assert deliver(BATCH) is None
    assert idempotent(effects.deliver_one, table=table)(BATCH) is None
    assert effects.done == [0, 1, 2, 3]


def test_the_state_table_is_the_default(
    effects: Effects, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_TABLE", table)
    idempotent(effects.deliver_one)(BATCH)
    idempotent(effects.deliver_one, table=table)(BATCH)
    assert effects.done == [0, 1, 2, 3]


def test_a_failed_change_is_named_and_dealt_with_by_the_next_attempt(
    effects: Effects, table: str
) -> None:
    deliver = idempotent(effects.deliver_one, table=table)
    effects.failing = {2}
    assert FunctionSink(deliver).deliver(BATCH, deadline_s=0).delivered == 2
    assert deliver(BATCH) == {"batchItemFailures": [{"itemIdentifier": change_id(BATCH[2])}]}
    effects.failing = set()
    assert deliver(BATCH) is None
    assert effects.done == [0, 1, 2, 3]


def test_the_first_change_of_a_batch_raises_its_own_error(effects: Effects, table: str) -> None:
    effects.failing = {0}
    with pytest.raises(ValueError, match="for a while"):
        idempotent(effects.deliver_one, table=table)(BATCH)


def test_a_killed_attempt_holds_its_change_until_its_time_is_over(
    effects: Effects, table: str
) -> None:
    """The target's failure and no change's: it counts as no attempt."""
    effects.killing = {0}
    with pytest.raises(Killed):
        idempotent(effects.deliver_one, table=table)(BATCH)
    effects.killing = set()
    outcome = FunctionSink(idempotent(effects.deliver_one, table=table)).deliver(
        BATCH, deadline_s=0
    )
    assert isinstance(outcome.error, DeliveryFailed)
    assert effects.done == []


def test_a_killed_attempt_is_made_again_when_its_time_is_over(effects: Effects, table: str) -> None:
    effects.killing = {0}
    with pytest.raises(Killed):
        idempotent(effects.deliver_one, table=table, attempt_s=-1)(BATCH)
    effects.killing = set()
    idempotent(effects.deliver_one, table=table)(BATCH)
    assert effects.done == [0, 1, 2, 3]


def test_a_change_is_forgotten_after_its_time(effects: Effects, table: str) -> None:
    idempotent(effects.deliver_one, table=table, remember_s=-60)(BATCH)
    idempotent(effects.deliver_one, table=table)(BATCH)
    assert effects.done == [0, 1, 2, 3] * 2


def test_each_record_says_when_dynamodb_may_delete_it(effects: Effects, table: str) -> None:
    idempotent(effects.deliver_one, table=table, remember_s=3600)(BATCH)
    items = boto3.client("dynamodb").scan(TableName=table)["Items"]
    assert len(items) == 4
    assert all("N" in item["expiration"] for item in items)
    assert {item["stream"]["S"] for item in items} == {"orders#delivered"}


def test_streams_do_not_share_a_memory(effects: Effects, table: str) -> None:
    deliver = idempotent(effects.deliver_one, table=table)
    deliver(BATCH)
    deliver(Batch("copies", list(BATCH), 1))
    assert effects.done == [0, 1, 2, 3] * 2


def test_the_position_beside_it_is_untouched(effects: Effects, table: str) -> None:
    store = DynamoCheckpoints(boto3.client("dynamodb"), table)
    store.acquire("orders", "me", now_ms=1, expires_at_ms=10)
    idempotent(effects.deliver_one, table=table)(BATCH)
    again = store.acquire("orders", "me", now_ms=2, expires_at_ms=20)
    assert isinstance(again, Acquired)
    assert again.lease.fencing_token == 2


@pytest.mark.usefixtures("aws_endpoint")
def test_a_memory_that_fails_is_no_failure_of_a_change(effects: Effects) -> None:
    with pytest.raises(DeliveryFailed, match="ResourceNotFoundException"):
        idempotent(effects.deliver_one, table="not-there")(BATCH)
    assert effects.done == []
