"""The CheckpointStore port: the fake and DynamoDB keep the same promises."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from bson.timestamp import Timestamp

import aws
from fakes.store import MemoryStore
from tidemark.dynamodb import DynamoCheckpoints
from tidemark.errors import LeaseLost, StateRefused
from tidemark.item import SCHEMA_VERSION
from tidemark.model import (
    NO_ATTEMPTS,
    Acquired,
    Attempts,
    Checkpoint,
    Gap,
    Lease,
    NotAcquired,
    Observed,
    Position,
    Status,
)

if TYPE_CHECKING:
    from tidemark.ports import CheckpointStore

NOW_MS = 1_800_000_000_000
LATER_MS = NOW_MS + 30_000
TOKEN = {"_data": "8263A5"}
STORED = Checkpoint(
    position=Position(resume_token=TOKEN),
    definition='{"database": "shop"}',
    fingerprint="f" * 64,
    cluster_time=Timestamp(1_799_999_999, 7),
    change_wall_time_ms=1_799_999_999_123,
    checkpointed_at_ms=NOW_MS,
    before=Position(operation_time=Timestamp(1_799_999_990, 1)),
    deployment="rs0",
    observed=Observed(Timestamp(1_800_000_000, 3), NOW_MS - 7),
)
FAILED = Attempts(count=2, change_id="c" * 64, first_at_ms=NOW_MS - 5, alone=True, open=True)
GAP = Gap(
    stream="orders",
    reason="history_lost",
    code=286,
    recorded_at_ms=NOW_MS,
    definition="{}",
    from_checkpoint=STORED,
    to_position=Position(operation_time=Timestamp(1_800_000_000, 1)),
)


@dataclass(frozen=True)
class Bench:
    """A store and a way around it, to what it has stored of the stream "orders"."""

    store: CheckpointStore
    read: Callable[[], dict[str, Any]]
    write: Callable[[dict[str, Any]], None]
    gaps: Callable[[], int]

    def acquire(
        self, owner: str = "me", *, now_ms: int = NOW_MS, stream: str = "orders"
    ) -> Acquired | NotAcquired:
        return self.store.acquire(stream, owner, now_ms=now_ms, expires_at_ms=now_ms + 30_000)

    def take(self, owner: str = "me", *, now_ms: int = NOW_MS) -> Acquired:
        answer = self.acquire(owner, now_ms=now_ms)
        assert isinstance(answer, Acquired)
        return answer

    def lease(self) -> Lease:
        return self.take(str(uuid.uuid4())).lease


def _memory() -> Bench:
    store = MemoryStore()
    return Bench(
        store,
        read=lambda: dict(store.items.get("orders", {})),
        write=lambda item: store.items.setdefault("orders", {}).update(item),
        gaps=lambda: len(store.gaps),
    )


def _dynamodb(request: pytest.FixtureRequest) -> Bench:
    client = aws.dynamodb(request.getfixturevalue("aws_endpoint"))
    table = request.getfixturevalue("table")
    key = {"stream": {"S": "orders"}, "record": {"S": "checkpoint"}}

    def read() -> dict[str, Any]:
        item = client.get_item(TableName=table, Key=key).get("Item", {})
        return {name: item[name] for name in item if name not in key}

    def gaps() -> int:
        return client.scan(
            TableName=table,
            FilterExpression="begins_with(#record, :gap)",
            ExpressionAttributeNames={"#record": "record"},
            ExpressionAttributeValues={":gap": {"S": "gap#"}},
        )["Count"]

    def write(item: dict[str, Any]) -> None:
        client.put_item(TableName=table, Item=key | read() | item)

    return Bench(DynamoCheckpoints(client, table), read, write, gaps)


@pytest.fixture(params=["memory", "dynamodb"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return _memory() if request.param == "memory" else _dynamodb(request)


# ------------------------------------------------------------------------------------- acquire


def test_a_stream_never_seen_is_free(bench: Bench) -> None:
    taken = bench.take()
    assert taken == Acquired(Lease("orders", "me", 1, LATER_MS))


def test_a_held_lease_says_who_holds_it_until_when(bench: Bench) -> None:
    """G4: one reader."""
    bench.take("first")
    before = bench.read()
    assert bench.acquire("second") == NotAcquired(Status.RUNNING, None, "first", LATER_MS)
    assert bench.read() == before


def test_an_expired_lease_is_free_at_its_very_end(bench: Bench) -> None:
    bench.take("first")
    assert isinstance(bench.acquire("second", now_ms=LATER_MS - 1), NotAcquired)
    assert bench.take("second", now_ms=LATER_MS).lease.fencing_token == 2


def test_taking_ones_own_lease_again_succeeds_and_is_no_killed_run(bench: Bench) -> None:
    bench.take("me")
    again = bench.take("me")
    assert again.unreleased_runs == 0
    assert again.lease.fencing_token == 2


def test_a_released_lease_is_free_at_once(bench: Bench) -> None:
    bench.store.save(bench.take("first").lease, None, NO_ATTEMPTS, expires_at_ms=0)
    assert bench.read()["lease_expires_at_ms"] == {"N": "0"}
    assert bench.take("second").lease.fencing_token == 2


def test_the_fencing_token_rises_with_each_taking(bench: Bench) -> None:
    """G4: whoever holds a lower one is a former holder."""
    tokens = []
    for _ in range(4):
        lease = bench.lease()
        tokens.append(lease.fencing_token)
        bench.store.save(lease, None, NO_ATTEMPTS, expires_at_ms=0)
    assert tokens == [1, 2, 3, 4]


def test_streams_have_leases_of_their_own(bench: Bench) -> None:
    bench.take("first")
    other = bench.acquire("second", stream="customers")
    assert isinstance(other, Acquired)


@pytest.mark.parametrize("status", [Status.PAUSED, Status.HALTED])
def test_a_resting_stream_is_not_taken_and_says_why(bench: Bench, status: Status) -> None:
    bench.store.save(bench.take("first").lease, STORED, NO_ATTEMPTS, expires_at_ms=0)
    assert bench.store.set_status("orders", status, reason="maintenance")
    assert bench.acquire("second") == NotAcquired(status, "maintenance", "first", 0, STORED)
    assert bench.store.set_status("orders", Status.RUNNING, reason=None)
    taken = bench.take("second").checkpoint
    assert taken == STORED
    assert taken is not None
    assert taken.observed == STORED.observed  # which no comparison looks at
    assert "status_reason" not in bench.read()


def test_a_position_of_a_former_edition_is_not_taken_for_what_was_stored_beside_another(
    bench: Bench,
) -> None:
    """Both editions may run during a deployment: the former one leaves what it does not know."""
    first = replace(STORED, position=Position(operation_time=Timestamp(1, 1)), unopened=True)
    bench.store.save(bench.take().lease, first, NO_ATTEMPTS, expires_at_ms=0)
    known = bench.take("second").checkpoint
    assert known is not None
    assert (known.before, known.unopened) == (STORED.before, True)
    bench.write({"position_use": {"S": "token"}, "resume_token": {"S": '{"_data": "82FF"}'}})
    moved = bench.take("second").checkpoint
    assert moved is not None
    assert (moved.before, moved.unopened) == (None, False)


def test_a_newer_schema_is_refused_and_left_alone(bench: Bench) -> None:
    bench.store.save(bench.take().lease, STORED, NO_ATTEMPTS, expires_at_ms=0)
    bench.write({"schema_version": {"N": str(SCHEMA_VERSION + 1)}})
    before = bench.read()
    with pytest.raises(StateRefused, match=r"schema_version 2.*deploy the version that wrote it"):
        bench.acquire("second")
    assert bench.read() == before


@pytest.mark.parametrize(
    "damage",
    [
        {"resume_token": {"S": "{not json"}},
        {"resume_token": {"S": "[]"}},
        {"resume_token": {"S": '{"_data": {"$oid": "zz"}}'}},
        {"position_use": {"S": "operation_time"}},
        {"cluster_time": {"S": "yesterday"}},
        {"resume_token": {"N": "7"}},
        {"change_wall_time_ms": {"S": "7"}},
        {"fingerprint": {"N": "7"}},
        {"attempts": {"S": "many"}},
    ],
    ids=str,
)
def test_a_damaged_item_is_refused_and_its_lease_given_back(
    bench: Bench, damage: dict[str, Any]
) -> None:
    bench.store.save(bench.take().lease, STORED, NO_ATTEMPTS, expires_at_ms=0)
    bench.write(damage)
    with pytest.raises(StateRefused, match=r"damaged.*point-in-time recovery"):
        bench.acquire("second")
    after = bench.read()
    assert after["lease_expires_at_ms"] == {"N": "0"}
    assert {name: after[name] for name in damage} == damage


def test_a_pause_set_in_mid_run_outlives_the_run(bench: Bench) -> None:
    """A holder's writes leave the status to the operator."""
    lease = bench.lease()
    assert bench.store.set_status("orders", Status.PAUSED, reason="maintenance")
    bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=LATER_MS)
    bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=0)
    answer = bench.acquire("next")
    assert isinstance(answer, NotAcquired)
    assert (answer.status, answer.status_reason) == (Status.PAUSED, "maintenance")


# --------------------------------------------------------------------------- progress comes back


@pytest.mark.parametrize(
    "position",
    [
        Position(resume_token=TOKEN),
        Position(resume_token={"_data": "82", "_typeBits": b"\x01", "n": {"x": 1.5}}),
        Position(operation_time=Timestamp(1_800_000_000, 4_294_967_295)),
    ],
    ids=str,
)
def test_what_was_saved_comes_back(bench: Bench, position: Position) -> None:
    checkpoint = replace(STORED, position=position, behind_invalidate=True)
    bench.store.save(bench.take().lease, checkpoint, FAILED, expires_at_ms=0)
    back = bench.take()
    assert (back.checkpoint, back.attempts) == (checkpoint, FAILED)


def test_a_position_of_one_kind_replaces_the_other(bench: Bench) -> None:
    lease = bench.lease()
    first = replace(STORED, position=Position(operation_time=Timestamp(1, 1)), cluster_time=None)
    bench.store.save(lease, first, NO_ATTEMPTS, expires_at_ms=LATER_MS)
    bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=LATER_MS)
    assert "operation_time" not in bench.read()
    bench.store.save(lease, first, NO_ATTEMPTS, expires_at_ms=0)
    assert "resume_token" not in bench.read()
    assert bench.take().checkpoint == first


def test_a_position_that_is_no_invalidates_is_not_taken_for_one(bench: Bench) -> None:
    lease = bench.lease()
    behind = replace(STORED, behind_invalidate=True)
    bench.store.save(lease, behind, NO_ATTEMPTS, expires_at_ms=LATER_MS)
    bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=0)
    assert "behind_invalidate" not in bench.read()
    assert bench.take().checkpoint == STORED


def test_no_checkpoint_leaves_the_position(bench: Bench) -> None:
    lease = bench.lease()
    bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=LATER_MS)
    bench.store.save(lease, None, FAILED, expires_at_ms=0)
    back = bench.take()
    assert (back.checkpoint, back.attempts) == (STORED, FAILED)


def test_attempts_are_cleared_by_a_save_without_any(bench: Bench) -> None:
    lease = bench.lease()
    bench.store.save(lease, None, FAILED, expires_at_ms=LATER_MS)
    bench.store.save(lease, None, NO_ATTEMPTS, expires_at_ms=0)
    assert bench.take().attempts == NO_ATTEMPTS
    assert not {"attempts", "attempts_change_id", "attempts_since_ms"} & bench.read().keys()


def test_a_renewal_moves_the_leases_end_and_nothing_else(bench: Bench) -> None:
    lease = bench.lease()
    bench.store.save(lease, STORED, FAILED, expires_at_ms=LATER_MS)
    before = bench.read()
    bench.store.renew(lease, expires_at_ms=LATER_MS + 5)
    assert bench.read() == before | {"lease_expires_at_ms": {"N": str(LATER_MS + 5)}}


def test_halting_stores_progress_and_releases(bench: Bench) -> None:
    bench.store.halt(bench.lease(), STORED, FAILED, reason="poison")
    answer = bench.acquire("next")
    assert isinstance(answer, NotAcquired)
    assert (answer.status, answer.status_reason) == (Status.HALTED, "poison")
    assert answer.expires_at_ms == 0
    assert bench.store.set_status("orders", Status.RUNNING, reason=None)
    back = bench.take()
    assert (back.checkpoint, back.attempts, back.unreleased_runs) == (STORED, NO_ATTEMPTS, 0)


def test_the_status_of_a_stream_without_an_item_cannot_be_set(bench: Bench) -> None:
    assert bench.store.set_status("orders", Status.PAUSED, reason=None) is False
    assert bench.read() == {}


# ------------------------------------------------------------------------------ killed containers


def test_runs_that_neither_moved_nor_released_are_counted(bench: Bench) -> None:
    for killed in range(3):
        taken = bench.take(f"run {killed}", now_ms=NOW_MS + killed * 60_000)
        assert taken.unreleased_runs == killed


@pytest.mark.parametrize("settled", ["moved", "released"])
def test_progress_or_a_release_ends_the_count(bench: Bench, settled: str) -> None:
    bench.take("killed")
    lease = bench.take("next", now_ms=LATER_MS).lease
    if settled == "moved":
        bench.store.save(lease, STORED, NO_ATTEMPTS, expires_at_ms=LATER_MS + 1)
    else:
        bench.store.save(lease, None, NO_ATTEMPTS, expires_at_ms=0)
    assert bench.take("after", now_ms=LATER_MS + 1).unreleased_runs == 0


@pytest.mark.parametrize("write", ["renew", "attempts"])
def test_a_renewal_or_attempts_alone_do_not_end_the_count(bench: Bench, write: str) -> None:
    lease = bench.take("killed").lease
    if write == "renew":
        bench.store.renew(lease, expires_at_ms=LATER_MS)
    else:
        bench.store.save(lease, None, FAILED, expires_at_ms=LATER_MS)
    assert bench.take("after", now_ms=LATER_MS).unreleased_runs == 1


# ------------------------------------------------------------------------------------------ gaps


def test_a_gap_is_stored_together_with_its_new_position(bench: Bench) -> None:
    """G7: nothing is skipped in silence."""
    lease = bench.lease()
    behind = replace(STORED, position=GAP.to_position)
    bench.store.save(lease, STORED, FAILED, expires_at_ms=LATER_MS)
    bench.store.save_gap(lease, behind, GAP, expires_at_ms=0)
    back = bench.take()
    assert (back.checkpoint, back.attempts, bench.gaps()) == (behind, NO_ATTEMPTS, 1)


def test_a_gap_refused_leaves_neither_record_nor_position(bench: Bench) -> None:
    """G7: both or neither."""
    former = bench.take("first").lease
    bench.take("second", now_ms=LATER_MS)
    before = bench.read()
    with pytest.raises(LeaseLost):
        bench.store.save_gap(former, STORED, GAP, expires_at_ms=LATER_MS)
    assert (bench.read(), bench.gaps()) == (before, 0)


# -------------------------------------------------------------------------------- a former holder

Write = Callable[["CheckpointStore", Lease], None]
WRITES: dict[str, Write] = {
    "renew": lambda store, lease: store.renew(lease, expires_at_ms=LATER_MS),
    "save": lambda store, lease: store.save(lease, STORED, FAILED, expires_at_ms=LATER_MS),
    "release": lambda store, lease: store.save(lease, STORED, FAILED, expires_at_ms=0),
    "halt": lambda store, lease: store.halt(lease, STORED, FAILED, reason="poison"),
    "gap": lambda store, lease: store.save_gap(lease, STORED, GAP, expires_at_ms=LATER_MS),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_former_holder_changes_nothing(bench: Bench, write: Write) -> None:
    """G4: every write is fenced."""
    former = bench.take("first").lease
    bench.take("second", now_ms=LATER_MS)
    before = bench.read()
    with pytest.raises(LeaseLost, match="fencing token 1 is no longer"):
        write(bench.store, former)
    assert bench.read() == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_for_a_stream_without_an_item_makes_none(bench: Bench, write: Write) -> None:
    """G4: an operator who deleted the item has ended every run of it."""
    with pytest.raises(LeaseLost):
        write(bench.store, Lease("orders", "me", 1, LATER_MS))
    assert bench.read() == {}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_may_be_repeated(bench: Bench, write: Write) -> None:
    """The SDK repeats a request whose answer was lost, though it had succeeded."""
    lease = bench.lease()
    write(bench.store, lease)
    once = bench.read()
    write(bench.store, lease)
    assert bench.read() == once


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_unknown_attributes_survive(bench: Bench, write: Write) -> None:
    lease = bench.lease()
    bench.write({"note": {"S": "an operator's"}})
    write(bench.store, lease)
    bench.store.set_status("orders", Status.RUNNING, reason=None)
    bench.take("later", now_ms=LATER_MS)
    assert bench.read()["note"] == {"S": "an operator's"}
