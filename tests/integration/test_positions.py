"""What becomes of a position that the server or the definition no longer bears out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from pymongo import MongoClient

import mongodb
from tidemark.invocation import StreamsFailed
from tidemark.mongodb.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from service import Service
    from tidemark.settings import StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]
    Stored: TypeAlias = Callable[..., dict[str, Any]]
    Gaps: TypeAlias = Callable[[], list[dict[str, Any]]]

UPDATES = ({"$match": {"operationType": "update"}},)
INSERTS = ({"$match": {"operationType": "insert"}},)


# ----------------------------------------------------------------------------------- lost history


@pytest.fixture(scope="module")
def forgetful() -> Iterator[str]:
    """A server that keeps a hundred entries of its oplog."""
    with mongodb.serve(mongodb.Options(oplog_max_entries=100)) as server:
        yield server.uri


@pytest.fixture
def forgotten(forgetful: str, serve: Serve, orders: Orders) -> Iterator[tuple[Db, str]]:
    """A database whose stream "orders" has a position that its server no longer has."""
    with MongoClient[dict[str, Any]](forgetful) as client:
        name = orders().database
        assert name is not None
        serve(orders(), uri=forgetful).run()
        for _ in range(5):
            client[name].noise.insert_many([{} for _ in range(200)])
        yield client[name], forgetful


def test_lost_history_halts_the_stream_until_an_operator_acts(
    forgotten: tuple[Db, str], serve: Serve, orders: Orders, stored: Stored, gaps: Gaps
) -> None:
    """G7: never "from now" by itself."""
    _, uri = forgotten
    container = serve(orders(), uri=uri)
    before = stored()
    with pytest.raises(StreamsFailed, match=r"HistoryLost: .*code 286"):
        container.run()
    assert container.run()["orders"]["stop_reason"] == "halted"
    after = stored()
    assert after["resume_token"] == before["resume_token"]
    assert (after["status"], after["status_reason"]) == (
        "halted",
        "history lost (server code 286)",
    )
    assert gaps() == []
    assert [event["status_reason"] for event in container.named("stream.halted")] == [
        "history lost (server code 286)"
    ]


@pytest.mark.parametrize("policy", ["now", "earliest"])
def test_lost_history_by_policy_is_recorded_and_the_stream_goes_on(
    policy: str,
    forgotten: tuple[Db, str],
    serve: Serve,
    orders: Orders,
    stored: Stored,
    gaps: Gaps,
) -> None:
    """G7: the gap is durable, counted, and logged at error level."""
    (database, uri), lost = forgotten, stored()
    container = serve(orders(on_history_lost=policy), uri=uri)
    assert container.run()["orders"]["gaps"] == 1
    [gap] = gaps()
    assert (gap["reason"], gap["error_code"], gap["stream"]) == ("history_lost", "286", "orders")
    assert gap["from_checkpointed_at_ms"] == lost["checkpointed_at_ms"]
    assert gap["to_position_use"] == "operation_time"
    [told] = container.named("gap.recorded")
    assert (told["level"], told["code"]) == ("ERROR", 286)
    database.orders.insert_one({"_id": "after"})
    assert container.run()["orders"]["gaps"] == 0
    assert container.deliver.keys == ["after"]


# ------------------------------------------------------------------------------------ invalidates


def _drop(database: Db) -> None:
    database.orders.drop()


def _rename(database: Db) -> None:
    database.orders.rename("former")


def _drop_database(database: Db) -> None:
    database.client.drop_database(database.name)


@pytest.mark.parametrize("end", [_drop, _rename, _drop_database])
@pytest.mark.parametrize("pipeline", [(), INSERTS], ids=["delivered", "hidden"])
def test_a_stream_goes_on_behind_an_invalidate(
    end: Callable[[Db], None],
    pipeline: tuple[dict[str, Any], ...],
    database: Db,
    orders: Orders,
    serve: Serve,
    gaps: Gaps,
) -> None:
    """G1, G7: what was written before and behind it arrives, and no gap arises."""
    container = serve(orders(pipeline=pipeline))
    container.run()
    database.orders.insert_one({"_id": "before"})
    end(database)
    database.orders.insert_one({"_id": "behind"})
    container.run()
    container.run()
    keys = container.deliver.keys
    assert [key for key in keys if key in ("before", "behind")] == ["before", "behind"]
    assert ("invalidate" in keys) == (pipeline == ())
    assert len(container.named("stream.invalidated")) == 1
    assert gaps() == []


def test_invalidates_in_sequence_are_passed_one_by_one(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G1: what was written between two of them arrives."""
    container = serve(orders(pipeline=INSERTS))
    container.run()
    for turn in range(2):
        database.orders.insert_one({"_id": turn})
        database.orders.drop()
    container.run()
    assert container.deliver.keys == [0, 1]
    assert len(container.named("stream.invalidated")) == 2


@pytest.mark.parametrize("pipeline", [(), INSERTS], ids=["delivered", "hidden"])
def test_a_server_without_start_after_costs_a_recorded_gap_and_no_change(
    pipeline: tuple[dict[str, Any], ...],
    database: Db,
    orders: Orders,
    serve: Serve,
    gaps: Gaps,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G1, G7: `resume_after` does not take an invalidate's token; its time leads behind it."""
    monkeypatch.setattr(Capabilities, "start_after", False)
    container = serve(orders(pipeline=pipeline))
    container.run()
    database.orders.insert_one({"_id": "before"})
    database.orders.drop()
    database.orders.insert_one({"_id": "behind"})
    assert container.run()["orders"]["gaps"] == 1
    keys = [key for key in container.deliver.keys if key in ("before", "behind")]
    assert keys == ["before", "behind"]
    [gap] = gaps()
    assert (gap["reason"], gap["to_position_use"]) == ("invalidate_refused", "operation_time")
    assert container.run()["orders"]["gaps"] == 0


def test_dropping_a_database_invalidates_its_stream(
    database: Db, orders: Orders, serve: Serve
) -> None:
    container = serve(orders(collection=None, pipeline=INSERTS))
    container.run()
    database.orders.insert_one({"_id": 1})
    database.client.drop_database(database.name)
    database.others.insert_one({"_id": 2})
    container.run()
    container.run()
    assert container.deliver.keys == [1, 2]


# ------------------------------------------------------------------------------ changed definition


def test_another_definition_is_refused_with_both_shown(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G10: a position belongs to its stream definition."""
    serve(orders()).run()
    database.orders.insert_one({"_id": 1})
    before = stored()
    changed = serve(orders(pipeline=UPDATES))
    with pytest.raises(StreamsFailed) as refused:
        changed.run()
    message = str(refused.value)
    assert "DefinitionChanged" in message
    assert "$match" in message
    assert r"\"pipeline\": []" in message
    assert stored() == before | {"fencing_token": "2", "lease_owner": stored()["lease_owner"]}
    same = serve(orders(max_changes=7, idle_s=0.03))
    same.run()
    assert same.deliver.keys == [1]


def test_another_definition_may_keep_the_position(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G10: by an explicit choice."""
    serve(orders()).run()
    database.orders.insert_many([{"_id": 1}, {"_id": 2}])
    database.orders.update_one({"_id": 2}, {"$set": {"x": 1}})
    changed = serve(orders(pipeline=UPDATES, on_definition_change="resume"))
    changed.run()
    assert changed.deliver.keys == [2]
    assert "$match" in stored()["definition"]


def test_another_definition_may_start_afresh_with_a_gap_on_record(
    database: Db, orders: Orders, serve: Serve, gaps: Gaps
) -> None:
    """G7, G10."""
    serve(orders()).run()
    database.orders.insert_one({"_id": 1})
    changed = serve(orders(full_document="updateLookup", on_definition_change="restart"))
    assert changed.run()["orders"]["gaps"] == 1
    [gap] = gaps()
    assert gap["reason"] == "definition_changed"
    assert json.loads(gap["definition"])["full_document"] == "updateLookup"
    database.orders.insert_one({"_id": 2})
    changed.run()
    assert changed.deliver.keys == [2]
