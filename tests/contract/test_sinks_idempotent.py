"""`idempotent(deliver_one)` on the embedded DynamoDB: effectively once (G3)."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
)
from botocore.config import Config

from fakes import Stage, insert
from faulty_dynamodb import Fault, Requests
from sink_kinds import batch_of, change
from tidemark.dynamodb import DynamoCheckpoints
from tidemark.errors import ConfigError, DeliveryFailed, SourceUnavailable
from tidemark.idempotency import idempotent
from tidemark.model import Acquired, Batch, Change, change_id
from tidemark.sinks.function import FunctionSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from tidemark.ports import Outcome


class Killed(BaseException):
    """The container is gone."""


class Effects:
    """What was done, and how often; raises what `failing` says at a number."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failing: dict[int, BaseException] = {}

    def deliver_one(self, each: Change) -> object:
        number: int = each["fullDocument"]["n"]
        if number in self.failing:
            raise self.failing[number]
        self.done.append(number)
        return {"what": object()}  # whatever a user's function returns is not stored


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def client(table: str) -> DynamoDBClient:
    """A client that tries each request once."""
    assert table
    once = Config(retries={"total_max_attempts": 1})
    return boto3.client("dynamodb", config=once)


BATCH = batch_of([change(number) for number in range(4)])
DEALT_WITH = ("PutItem", "UpdateItem")  # the requests of one change


def kill_behind(client: DynamoDBClient, operation: str, *, after: int = 0) -> None:
    """Let the container be killed once, by the answer to a request; `after` so many answers."""
    answers = iter([*range(after)])

    def kill(**_: Any) -> None:
        if next(answers, None) is None:
            client.meta.events.unregister(event, kill)
            raise Killed

    event = f"after-call.dynamodb.{operation}"
    client.meta.events.register(event, cast("Any", kill))


def pass_time(table: str, seconds: int) -> None:
    """Make all that is remembered so much older."""
    dynamodb = boto3.client("dynamodb")
    for item in dynamodb.scan(TableName=table)["Items"]:
        for name, a_second in (("expiration", 1), ("in_progress_expiration", 1000)):
            if name in item:
                item[name] = {"N": str(int(item[name]["N"]) - seconds * a_second)}
        dynamodb.put_item(TableName=table, Item=item)


def delivered(deliver: Callable[[Batch], object], batch: Batch = BATCH) -> Outcome:
    """What a run is told."""
    return FunctionSink(deliver).deliver(batch, deadline_s=0)


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


def test_it_costs_two_requests_a_change_and_one_where_it_comes_again(
    effects: Effects, table: str, client: DynamoDBClient
) -> None:
    requests = Requests().watch(client)
    deliver = idempotent(effects.deliver_one, table=table, client=client)
    deliver(BATCH)
    assert requests.operations == [*DEALT_WITH] * 4
    deliver(BATCH)
    assert requests.operations[8:] == ["PutItem"] * 4


def test_a_failed_change_is_named_and_dealt_with_by_the_next_attempt(
    effects: Effects, table: str
) -> None:
    deliver = idempotent(effects.deliver_one, table=table)
    effects.failing = {2: ValueError("for a while")}
    assert (delivered(deliver).delivered, delivered(deliver).named) == (2, True)
    assert deliver(BATCH) == {"batchItemFailures": [{"itemIdentifier": change_id(BATCH[2])}]}
    effects.failing = {}
    assert deliver(BATCH) is None
    assert effects.done == [0, 1, 2, 3]


def test_the_first_change_of_a_batch_raises_its_own_error(effects: Effects, table: str) -> None:
    effects.failing = {0: ValueError("for a while")}
    with pytest.raises(ValueError, match="for a while"):
        idempotent(effects.deliver_one, table=table)(BATCH)


@pytest.mark.parametrize("place", [0, 2])
def test_an_exit_passes_and_its_change_is_forgotten_like_any_that_failed(
    effects: Effects, table: str, place: int
) -> None:
    """A cancelled task, an exit of a library: nobody was killed, so nothing is held up."""
    deliver = idempotent(effects.deliver_one, table=table)
    effects.failing = {place: SystemExit()}
    with pytest.raises(SystemExit):
        deliver(BATCH)
    effects.failing = {}
    assert deliver(BATCH) is None
    assert effects.done == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "error", [IdempotencyPersistenceLayerError, IdempotencyInconsistentStateError]
)
def test_powertools_own_errors_are_the_changes_where_its_function_raises_them(
    effects: Effects, table: str, error: type[Exception]
) -> None:
    """A user may remember something else with it; it is tried once, and blamed."""
    tried: list[Change] = []

    def deliver_one(each: Change) -> None:
        tried.append(each)
        effects.deliver_one(each)

    effects.failing = {1: error("the user's own")}
    outcome = delivered(idempotent(deliver_one, table=table))
    assert (outcome.delivered, outcome.named) == (1, True)
    assert len(tried) == 2


# ------------------------------------------------------------------------- containers, and time


@pytest.mark.parametrize("place", [0, 2])
def test_a_killed_attempt_holds_its_change_until_its_time_is_over(
    effects: Effects, table: str, client: DynamoDBClient, place: int
) -> None:
    """The target's failure and no change's: it counts as no attempt."""
    kill_behind(client, "PutItem", after=place)
    with pytest.raises(Killed):
        idempotent(effects.deliver_one, table=table, client=client)(BATCH)
    outcome = delivered(idempotent(effects.deliver_one, table=table))

    assert (outcome.delivered, outcome.named) == (place, False)
    assert isinstance(outcome.error, DeliveryFailed)
    assert "still holds its change" in str(outcome.error)
    assert effects.done == list(range(place))


def test_a_killed_attempt_is_made_again_when_its_time_is_over(
    effects: Effects, table: str, client: DynamoDBClient
) -> None:
    kill_behind(client, "PutItem")
    with pytest.raises(Killed):
        idempotent(effects.deliver_one, table=table, client=client, attempt_s=30)(BATCH)
    pass_time(table, 31)
    assert idempotent(effects.deliver_one, table=table)(BATCH) is None
    assert effects.done == [0, 1, 2, 3]


def test_a_change_is_forgotten_after_its_time(effects: Effects, table: str) -> None:
    idempotent(effects.deliver_one, table=table, remember_s=3600)(BATCH)
    pass_time(table, 3590)
    idempotent(effects.deliver_one, table=table)(BATCH)
    assert effects.done == [0, 1, 2, 3]
    pass_time(table, 11)
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


def test_streams_in_threads_make_one_client_at_a_time(
    effects: Effects, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3's clients may be used by many threads, and made by one."""
    make, making, together = boto3.client, threading.Lock(), threading.Barrier(2)
    overlaps: list[bool] = []

    def watched(*args: Any, **given: Any) -> Any:
        overlaps.append(not making.acquire(blocking=False))
        with suppress(threading.BrokenBarrierError):
            together.wait(timeout=0.2)
        with suppress(RuntimeError):
            making.release()
        return cast("Any", make)(*args, **given)

    monkeypatch.setattr(boto3, "client", watched)
    deliver = idempotent(effects.deliver_one, table=table)
    with ThreadPoolExecutor() as threads:
        answers = threads.map(deliver, [Batch(name, list(BATCH), 1) for name in ("a", "b")])
        assert list(answers) == [None, None]
    assert overlaps == [False, False]


# --------------------------------------------------------------- what fails, and whom it blames


@pytest.mark.usefixtures("aws_endpoint")
def test_a_memory_that_fails_is_no_failure_of_a_change(effects: Effects) -> None:
    with pytest.raises(DeliveryFailed, match="ResourceNotFoundException"):
        idempotent(effects.deliver_one, table="not-there")(BATCH)
    assert effects.done == []


def test_a_memory_that_cannot_be_made_is_no_failure_of_a_change(effects: Effects) -> None:
    with pytest.raises(DeliveryFailed, match="KeyError") as raised:
        idempotent(effects.deliver_one)(BATCH)
    assert "TIDEMARK_TABLE" in str(raised.value.__cause__.__cause__)  # type: ignore[union-attr]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.DENIED, Fault.SILENCE])
def test_a_memory_that_fails_behind_the_first_change_says_what_was_delivered(
    effects: Effects, table: str, client: DynamoDBClient, fault: Fault, place: int
) -> None:
    """The change at which it happens is innocent: it is not named."""
    Requests({place * len(DEALT_WITH): fault}).watch(client)
    outcome = delivered(idempotent(effects.deliver_one, table=table, client=client))

    assert (outcome.delivered, outcome.named) == (place, False)
    assert isinstance(outcome.error, DeliveryFailed)
    assert "the memory of delivered changes failed" in str(outcome.error)
    assert effects.done == list(range(place))


def test_an_effect_whose_mark_is_not_taken_comes_again_when_its_time_is_over(
    effects: Effects, table: str, client: DynamoDBClient
) -> None:
    """As if it had been killed there: nobody is blamed, and nothing is passed (G1)."""
    Requests({1 + len(DEALT_WITH): Fault.THROTTLED}).watch(client)
    deliver = idempotent(effects.deliver_one, table=table, client=client)
    assert (delivered(deliver).delivered, effects.done) == (1, [0, 1])
    assert (delivered(deliver).delivered, effects.done) == (1, [0, 1])
    pass_time(table, 61)
    assert (delivered(deliver).delivered, effects.done) == (4, [0, 1, 1, 2, 3])


def test_an_error_outlives_a_memory_that_cannot_forget_it(
    effects: Effects, table: str, client: DynamoDBClient
) -> None:
    """Else a poison change would never be set aside where DeleteItem is denied."""
    Requests({1: Fault.DENIED}).watch(client)
    effects.failing = {0: ValueError("poison")}
    error = delivered(idempotent(effects.deliver_one, table=table, client=client)).error

    assert error is effects.failing[0]
    assert (error.__cause__, error.__context__) == (None, None)  # its own place is logged


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize(
    "error",
    [DeliveryFailed("down"), DeliveryFailed("down", delivered=4), SourceUnavailable("down")],
    ids=["plain", "with a number of its own", "another retryable error"],
)
def test_what_may_be_tried_again_blames_no_change(
    effects: Effects, table: str, error: Exception, place: int
) -> None:
    """G1: how many are delivered is not for one of them to say."""
    effects.failing = {place: error}
    outcome = delivered(idempotent(effects.deliver_one, table=table))

    assert (outcome.delivered, outcome.named, str(outcome.error)) == (place, False, "down")
    assert isinstance(outcome.error, DeliveryFailed)
    assert outcome.error.__cause__ is error


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_no_change_is_set_aside_for_the_memory(
    effects: Effects, table: str, client: DynamoDBClient, max_attempts: int
) -> None:
    requests = Requests({2 * len(DEALT_WITH): Fault.THROTTLED}).watch(client)
    stage = Stage(*(insert(place, n=place) for place in range(5)), max_attempts=max_attempts)
    deliver = idempotent(effects.deliver_one, table=table, client=client)
    stage.sink = FunctionSink(deliver)  # type: ignore[assignment]
    summary = stage.run()

    assert (summary.error, summary.changes, summary.dead_letters) == (None, 5, 0)
    assert effects.done == [0, 1, 2, 3, 4]
    assert len(requests.operations) == 5 * len(DEALT_WITH) + 1  # the first two came once


# --------------------------------------------------------------------------------- configuration


async def asynchronous(_: Change) -> None:
    raise AssertionError


def generator(_: Change) -> Iterator[None]:
    yield


async def both(_: Change) -> AsyncIterator[None]:
    yield


class Asynchronous:
    async def __call__(self, _: Change) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "deliver_one",
    [asynchronous, generator, both, Asynchronous(), functools.partial(asynchronous)],
    ids=["coroutine", "generator", "both", "object", "partial"],
)
def test_a_function_that_does_nothing_when_it_is_called_is_refused(deliver_one: Any) -> None:
    """G1: each change would be remembered as dealt with."""
    with pytest.raises(ConfigError, match="must be an ordinary function"):
        idempotent(deliver_one)


@pytest.mark.parametrize(
    ("remember_s", "attempt_s"),
    [(0, 60), (-1, 60), (60, 60), (30, 60), (60, 0), (60, -1), (60, float("nan")), (10**12, 60)],
)
def test_times_that_forget_a_change_too_early_are_refused(
    effects: Effects, remember_s: int, attempt_s: float
) -> None:
    """G9: with both as they were given, and what would be right."""
    with pytest.raises(
        ConfigError, match=f"attempt_s is {attempt_s} and remember_s {remember_s}: "
    ):
        idempotent(effects.deliver_one, remember_s=remember_s, attempt_s=attempt_s)
