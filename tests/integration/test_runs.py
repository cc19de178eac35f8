"""Whole runs, from a write in MongoDB to a checkpoint in DynamoDB."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pymongo.monitoring
import pytest

from faulty_dynamodb import Requests
from service import Recorder, Service, metrics_of
from tidemark.invocation import StreamsFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database
    from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

    from tidemark.model import Batch
    from tidemark.settings import StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]
    Stored: TypeAlias = Callable[..., dict[str, Any]]


def test_what_is_written_is_delivered_in_order_and_checkpointed(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G1, G2: the main job."""
    container = serve(orders())
    assert container.run()["orders"]["stop_reason"] == "caught_up"
    database.orders.insert_many([{"_id": key} for key in range(25)])
    summary = container.run()["orders"]
    assert container.deliver.keys == list(range(25))
    assert (summary["changes"], summary["batches"], summary["error"]) == (25, 1, None)
    item = stored()
    assert (item["lease_expires_at_ms"], item["unreleased_runs"]) == ("0", "0")
    assert item["position_use"] == "token"
    assert not [each for each in container.named("run.ended") if "error" in each]


def test_nothing_before_the_first_run_and_nothing_after_it_is_missed(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G1: the opening position is stored before anything is read."""
    database.orders.insert_one({"_id": "before"})
    serve(orders()).run()
    database.orders.insert_one({"_id": "between"})
    cold = serve(orders())
    cold.run()
    assert cold.deliver.keys == ["between"]


def test_the_first_position_is_stored_before_the_stream_is_read(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G1: a container killed in its first delivery leaves a position before it."""
    seen: list[dict[str, Any]] = []

    def look(_: Batch) -> None:
        seen.append(stored())

    database.orders.insert_one({"_id": 1})
    serve(orders(start_at="earliest"), deliver=Recorder(look)).run()
    assert seen[0]["position_use"] == "operation_time"


def test_each_container_continues_where_the_last_one_ended(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G1, G3: nothing is lost and nothing comes twice over clean ends."""
    serve(orders()).run()
    delivered: list[Any] = []
    for start in range(0, 30, 10):
        database.orders.insert_many([{"_id": key} for key in range(start, start + 10)])
        container = serve(orders(max_changes=4))
        container.run()
        delivered += container.deliver.keys
        assert max(map(len, container.deliver.batches)) == 4
    assert delivered == list(range(30))


def test_a_change_has_the_same_id_each_time_it_is_delivered(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G3: duplicates are recognisable."""
    serve(orders()).run()
    database.orders.insert_many([{"_id": key} for key in range(3)])

    ids: list[list[str]] = []

    def fail(batch: Batch) -> None:
        ids.append([batch.change_id(change) for change in batch])
        raise RuntimeError

    first = serve(orders(max_attempts=9), deliver=Recorder(fail))
    with pytest.raises(StreamsFailed):
        first.run(remaining_ms=1500)
    second = serve(orders())
    second.run()
    assert second.deliver.ids == ids[0]
    assert len(set(second.deliver.ids)) == 3


def test_streams_run_side_by_side_and_one_failing_stops_no_other(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """The invocation ends in an error after all have ended, so that alarms see it."""

    def fail(batch: Batch) -> None:
        if batch.stream == "bad":
            raise ValueError("secret words")

    bad = orders(name="bad", collection="bad", max_attempts=9)
    container = serve(bad, orders(), orders(name="more", collection="more"), deliver=Recorder(fail))
    container.run()
    for name in ("bad", "orders", "more"):
        database[name].insert_one({"_id": name})
    with pytest.raises(StreamsFailed, match="1 of 3 streams failed") as failed:
        container.run(remaining_ms=1500)
    assert "DeliveryFailed" in str(failed.value)
    assert "secret words" not in str(failed.value)
    assert sorted(container.deliver.keys) == ["more", "orders"]
    assert {stored(name)["lease_expires_at_ms"] for name in ("bad", "orders", "more")} == {"0"}
    assert stored("bad")["attempts_change_id"]


def test_the_event_chooses_the_streams(orders: Orders, serve: Serve) -> None:
    container = serve(orders(), orders(name="more"))
    assert list(container.run("more")) == ["more"]


def test_a_held_lease_costs_one_request_and_is_told(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G4: the loser reads nothing."""
    loser = serve(orders())
    requests = Requests().watch(loser.dynamodb)
    answers: list[Any] = []

    def run_another(_: Batch) -> None:
        answers.append(loser.run())

    holder = serve(orders(), deliver=Recorder(run_another))
    holder.run()
    database.orders.insert_one({"_id": 1})
    holder.run()
    assert answers[0]["orders"]["stop_reason"] == "lease_held"
    assert requests.operations == ["UpdateItem"]
    [told] = loser.named("lease.held")
    assert told["lease_owner"]
    assert told["lease_expires_at_ms"] > time.time() * 1000
    assert (holder.deliver.keys, loser.deliver.keys) == ([1], [])


def test_a_holder_that_was_overtaken_neither_delivers_nor_checkpoints(
    database: Db, orders: Orders, serve: Serve, expire: Callable[..., None], stored: Stored
) -> None:
    """G4: the fencing token refuses the former holder's checkpoint."""
    winner = serve(orders())

    def lose(batch: Batch) -> None:
        if batch[0]["documentKey"]["_id"] == 0:
            expire()
            winner.run()

    loser = serve(orders(max_changes=2, checkpoint_interval_s=0), deliver=Recorder(lose))
    loser.run()
    database.orders.insert_many([{"_id": key} for key in range(6)])
    assert loser.run()["orders"]["stop_reason"] == "lease_lost"
    after = stored()
    assert (loser.deliver.keys, winner.deliver.keys) == ([0, 1], list(range(6)))
    assert after["fencing_token"] == "3"
    assert [event["stream"] for event in loser.named("lease.lost")] == ["orders"]
    assert winner.run()["orders"]["changes"] == 0


def test_draining_ends_when_idle_and_lingering_stays_for_the_budget(
    orders: Orders, serve: Serve
) -> None:
    """G5, G6: both end before the deadline, at a stored position.

    G12: the embedded server's tokens have no known form, so a lag is null with the reason.
    """
    drained = serve(orders()).run()["orders"]
    lingered = serve(orders(name="linger"), mode="linger", budget_s=0.6).run()["linger"]
    assert (drained["stop_reason"], lingered["stop_reason"]) == ("caught_up", "budget")
    assert (lingered["lag_ms"] is None) == ("no known form" in (lingered["lag_reason"] or ""))


def test_lingering_delivers_what_comes_meanwhile(
    database: Db, orders: Orders, serve: Serve
) -> None:
    container = serve(orders(), mode="linger", budget_s=0.8)
    container.run()
    database.orders.insert_one({"_id": 0})

    def write_more(batch: Batch) -> None:
        key = batch[-1]["documentKey"]["_id"] + 1
        if key < 4:
            database.orders.insert_one({"_id": key})

    container.deliver.before = write_more
    container.run()
    assert container.deliver.keys == [0, 1, 2, 3]


def test_a_quiet_streams_token_moves(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G6: what others write carries the position on, so that it never ages out of the oplog."""
    container = serve(orders())
    container.run()
    before = stored()["resume_token"]
    database.others.insert_many([{"_id": key} for key in range(5)])
    assert container.run()["orders"]["changes"] == 0
    assert stored()["resume_token"] != before


def test_a_batch_is_bounded_in_bytes(database: Db, orders: Orders, serve: Serve) -> None:
    container = serve(orders(max_bytes=3000))
    container.run()
    database.orders.insert_many([{"_id": key, "text": "x" * 1000} for key in range(5)])
    container.run()
    assert container.deliver.keys == list(range(5))
    assert [len(batch) for batch in container.deliver.batches] == [2, 2, 1]


def test_reading_ahead_delivers_the_same(database: Db, orders: Orders, serve: Serve) -> None:
    """G1, G2: the order of effects is the same."""
    container = serve(orders(max_changes=3, read_ahead=True))
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(20)])
    container.run()
    assert container.deliver.keys == list(range(20))


# ------------------------------------------------------------------------------- what a run costs


class Commands(pymongo.monitoring.CommandListener):
    """The names of all commands of this process."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


COMMANDS = Commands()
pymongo.monitoring.register(COMMANDS)


def test_an_idle_run_makes_two_requests_and_three_commands(orders: Orders, serve: Serve) -> None:
    """G6: acquire, release; aggregate, getMore, killCursors."""
    container = serve(orders())
    container.run()
    requests = Requests().watch(container.dynamodb)
    COMMANDS.names.clear()
    container.run()
    assert requests.operations == ["UpdateItem", "UpdateItem"]
    assert COMMANDS.names == ["aggregate", "getMore", "killCursors"]


# ------------------------------------------------------------------------------- logs and metrics


def test_each_stream_has_its_own_metrics(
    database: Db, orders: Orders, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    container = serve(orders(), orders(name="more", collection="more"))
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(3)])
    capsys.readouterr()
    container.run()
    metrics = {line["stream"]: line for line in metrics_of(capsys.readouterr().out)}
    assert set(metrics) == {"orders", "more"}
    assert metrics["orders"]["ChangesDelivered"] == [3.0]
    assert metrics["more"]["ChangesDelivered"] == [0.0]
    [declared] = metrics["orders"]["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "Tidemark"
    assert declared["Dimensions"] == [["service"], ["service", "stream"]]
    units = {each["Name"]: each["Unit"] for each in declared["Metrics"]}
    assert units["RunDurationMs"] == "Milliseconds"
    assert {"Batches", "LeaseHeld", "RunsSucceeded", "RunsFailed", "DeadLetters"} < units.keys()
