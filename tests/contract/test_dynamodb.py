"""DynamoDB itself: the item's attributes, lost answers, and how each failure is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from bson.timestamp import Timestamp

from faulty_dynamodb import Fault, Requests
from tcp_proxy import silent_server
from tidemark.dynamodb import CLIENT, DynamoCheckpoints
from tidemark.errors import LeaseLost, StoreRefused, StoreUnavailable
from tidemark.model import (
    NO_ATTEMPTS,
    Acquired,
    Attempts,
    Checkpoint,
    Gap,
    Lease,
    Position,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

NOW_MS = 1_800_000_000_000
LATER_MS = NOW_MS + 30_000
CHECKPOINT = Checkpoint(
    position=Position(resume_token={"_data": "8263A5"}),
    definition='{"database": "shop"}',
    fingerprint="f" * 64,
    cluster_time=Timestamp(1_799_999_999, 7),
    change_wall_time_ms=1_799_999_999_123,
    checkpointed_at_ms=NOW_MS,
    behind_invalidate=True,
)
FAILED = Attempts(count=2, change_id="c" * 64, first_at_ms=NOW_MS - 5)
GAP = Gap(
    stream="orders",
    reason="history_lost",
    code=286,
    recorded_at_ms=NOW_MS,
    definition='{"database": "shop"}',
    from_checkpoint=CHECKPOINT,
    to_position=Position(operation_time=Timestamp(1_800_000_000, 1)),
)


@pytest.fixture
def client(aws_endpoint: str) -> DynamoDBClient:
    return boto3.client("dynamodb", endpoint_url=aws_endpoint, config=CLIENT)


@pytest.fixture
def requests(client: DynamoDBClient) -> Requests:
    return Requests().watch(client)


@pytest.fixture
def store(client: DynamoDBClient, table: str) -> DynamoCheckpoints:
    return DynamoCheckpoints(client, table)


def _take(store: DynamoCheckpoints, owner: str = "me", *, now_ms: int = NOW_MS) -> Acquired:
    answer = store.acquire("orders", owner, now_ms=now_ms, expires_at_ms=now_ms + 30_000)
    assert isinstance(answer, Acquired)
    return answer


def _items(client: DynamoDBClient, table: str) -> list[dict[str, Any]]:
    items: list[Any] = client.scan(TableName=table)["Items"]
    return sorted(items, key=lambda item: str(item["record"]["S"]))


# ------------------------------------------------------------------------------------- the item


def test_the_items_are_written_as_the_design_says(
    client: DynamoDBClient, table: str, store: DynamoCheckpoints
) -> None:
    """DESIGN.md §5, to the letter: other tools and older versions read these attributes."""
    lease = _take(store).lease
    store.save_gap(lease, CHECKPOINT, GAP, expires_at_ms=LATER_MS)
    store.save(lease, None, FAILED, expires_at_ms=LATER_MS)
    store.halt(lease, None, FAILED, reason="poison")
    checkpoint, gap = _items(client, table)
    assert checkpoint == {
        "stream": {"S": "orders"},
        "record": {"S": "checkpoint"},
        "position_use": {"S": "token"},
        "resume_token": {"S": '{"_data": "8263A5"}'},
        "cluster_time": {"S": "1799999999.7"},
        "change_wall_time_ms": {"N": "1799999999123"},
        "checkpointed_at_ms": {"N": "1800000000000"},
        "behind_invalidate": {"N": "1"},
        "definition": {"S": '{"database": "shop"}'},
        "fingerprint": {"S": "f" * 64},
        "schema_version": {"N": "1"},
        "lease_owner": {"S": "me"},
        "lease_expires_at_ms": {"N": "0"},
        "fencing_token": {"N": "1"},
        "unreleased_runs": {"N": "0"},
        "attempts": {"N": "2"},
        "attempts_change_id": {"S": "c" * 64},
        "attempts_since_ms": {"N": "1799999999995"},
        "status": {"S": "halted"},
        "status_reason": {"S": "poison"},
    }
    assert gap == {
        "stream": {"S": "orders"},
        "record": {"S": "gap#2027-01-15T08:00:00.000+00:00"},
        "reason": {"S": "history_lost"},
        "error_code": {"N": "286"},
        "recorded_at_ms": {"N": "1800000000000"},
        "definition": {"S": '{"database": "shop"}'},
        "from_position": {"S": str(CHECKPOINT.position)},
        "from_cluster_time": {"S": "1799999999.7"},
        "from_wall_time_ms": {"N": "1799999999123"},
        "from_checkpointed_at_ms": {"N": "1800000000000"},
        "to_position_use": {"S": "operation_time"},
        "to_operation_time": {"S": "1800000000.1"},
    }


def test_a_first_position_is_stored_as_an_operation_time(
    client: DynamoDBClient, table: str, store: DynamoCheckpoints
) -> None:
    position = Position(operation_time=Timestamp(1_800_000_000, 3))
    store.save(_take(store).lease, Checkpoint(position, "{}", "f"), NO_ATTEMPTS, expires_at_ms=0)
    [item] = _items(client, table)
    assert (item["position_use"], item["operation_time"]) == (
        {"S": "operation_time"},
        {"S": "1800000000.3"},
    )
    assert not {"resume_token", "cluster_time", "change_wall_time_ms"} & item.keys()


# --------------------------------------------------------------------------------- lost answers

WRITES: dict[str, Callable[[DynamoCheckpoints, Lease], None]] = {
    "renew": lambda store, lease: store.renew(lease, expires_at_ms=LATER_MS),
    "save": lambda store, lease: store.save(lease, CHECKPOINT, FAILED, expires_at_ms=LATER_MS),
    "release": lambda store, lease: store.save(lease, CHECKPOINT, FAILED, expires_at_ms=0),
    "halt": lambda store, lease: store.halt(lease, CHECKPOINT, FAILED, reason="poison"),
    "gap": lambda store, lease: store.save_gap(lease, CHECKPOINT, GAP, expires_at_ms=LATER_MS),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_whose_answer_is_lost_succeeds_once_repeated(
    write: Callable[[DynamoCheckpoints, Lease], None],
    client: DynamoDBClient,
    table: str,
    store: DynamoCheckpoints,
    requests: Requests,
) -> None:
    """G1: the SDK's repeat of a write that had been applied is no lost lease."""
    lease = _take(store).lease
    write(store, lease)
    once = _items(client, table)
    before = len(requests.operations)
    requests.next(Fault.ANSWER_LOST)
    write(store, lease)
    assert len(requests.operations) == before + 2
    assert _items(client, table) == once


def test_an_acquisition_whose_answer_is_lost_is_ours(
    store: DynamoCheckpoints, requests: Requests
) -> None:
    """G4: the repeat finds the lease held by the same owner, and no run was killed meanwhile."""
    store.save(_take(store, "before").lease, CHECKPOINT, FAILED, expires_at_ms=0)
    requests.next(Fault.ANSWER_LOST)
    taken = _take(store)
    assert requests.operations == ["UpdateItem"] * 4
    assert (taken.checkpoint, taken.attempts, taken.unreleased_runs) == (CHECKPOINT, FAILED, 0)
    store.renew(taken.lease, expires_at_ms=LATER_MS)


def test_a_write_that_another_run_overtook_is_lost_though_it_had_been_applied(
    store: DynamoCheckpoints, requests: Requests, client: DynamoDBClient, table: str
) -> None:
    """G4: the repeat meets the higher fencing token."""
    former = _take(store, "former").lease
    _take(store, "next", now_ms=LATER_MS)
    before = _items(client, table)
    requests.next(Fault.ANSWER_LOST)
    with pytest.raises(LeaseLost):
        store.save(former, CHECKPOINT, NO_ATTEMPTS, expires_at_ms=0)
    assert _items(client, table) == before


# ------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.ERROR, Fault.SILENCE])
def test_one_failure_is_repeated(
    store: DynamoCheckpoints, requests: Requests, fault: Fault
) -> None:
    requests.next(fault)
    assert _take(store).lease.fencing_token == 1


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.ERROR, Fault.SILENCE])
def test_lasting_failure_is_unavailability(
    store: DynamoCheckpoints, requests: Requests, fault: Fault
) -> None:
    requests.next(*[fault] * 9)
    with pytest.raises(StoreUnavailable, match="stream 'orders': DynamoDB"):
        _take(store)
    assert len(requests.operations) == 2


def test_denied_access_names_the_missing_permission(
    store: DynamoCheckpoints, requests: Requests
) -> None:
    requests.next(Fault.DENIED)
    with pytest.raises(StoreRefused, match="role lacks dynamodb:UpdateItem on the table"):
        _take(store)


def test_a_missing_table_is_named_as_such(client: DynamoDBClient) -> None:
    with pytest.raises(StoreRefused, match="table does not exist in this region: check TIDEMARK_T"):
        _take(DynamoCheckpoints(client, "no-such-table"))


def test_a_table_with_another_key_is_named_as_such(client: DynamoDBClient) -> None:
    client.create_table(
        TableName="other-key",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(StoreRefused, match=r"table's key is not stream \(S\) \+ record \(S\)"):
        _take(DynamoCheckpoints(client, "other-key"))


@pytest.mark.usefixtures("aws_endpoint")
def test_a_server_that_never_answers_costs_less_than_the_reserve() -> None:
    """G5: two attempts of a second each, and a pause of a second at the most."""
    with silent_server() as port:
        client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}", config=CLIENT)
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            DynamoCheckpoints(client, "state").set_status("orders", Status.RUNNING, reason=None)
    assert time.monotonic() - began_s < 4
