"""The servers of `local/servers`, met by a plain PyMongo client."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.errors import (
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
)

import servers
from servers import tokens
from servers.errors import CommandError
from servers.pipeline import apply, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Client = MongoClient[dict[str, Any]]
ORDERS = "shop.orders"
SLOW = 0.0007


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Makes clients that are closed after the test, and before their server."""
    made: list[Client] = []

    def make(server: servers.Server, **options: Any) -> Client:
        made.append(MongoClient(server.uri, serverSelectionTimeoutMS=2000, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def keys(events: list[dict[str, Any]]) -> list[Any]:
    return [event.get("documentKey", {}).get("_id", event["operationType"]) for event in events]


def opened(
    client: Client, batch_size: int | None = 0, stages: tuple[Any, ...] = (), **options: Any
) -> dict[str, Any]:
    """The cursor of an aggregate's reply."""
    cursor = {} if batch_size is None else {"batchSize": batch_size}
    pipeline = [{"$changeStream": options}, *stages]
    reply = client.shop.command("aggregate", "orders", pipeline=pipeline, cursor=cursor)
    found: dict[str, Any] = reply["cursor"]
    return found


def more(client: Client, cursor_id: int, **given: Any) -> dict[str, Any]:
    """The cursor of a getMore's reply."""
    command = {"maxTimeMS": 50} | given
    reply = client.shop.command("getMore", cursor_id, collection="orders", **command)
    found: dict[str, Any] = reply["cursor"]
    return found


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within two seconds."""
    until_s = time.monotonic() + 2
    while not holds() and time.monotonic() < until_s:
        time.sleep(0.01)
    return holds()


def time_of(token: dict[str, Any]) -> Timestamp:
    return tokens.MongoDBForm().place(token).time


# ---------------------------------------------------------------------------------- plain clients


@pytest.mark.parametrize(
    "character",
    [servers.MONGOD, servers.MONGOS, servers.MONGODB_4_0, servers.DOCUMENTDB_5],
    ids=["mongod", "mongos", "4.0", "DocumentDB"],
)
def test_a_plain_watch_sees_what_a_plain_client_writes(
    character: servers.Character, connect: Callable[..., Client]
) -> None:
    with servers.serve(character) as server:
        orders = connect(server).shop.orders
        with orders.watch(max_await_time_ms=500) as stream:
            orders.insert_many([{"_id": 1, "region": "north"}, {"_id": 2}])
            orders.update_one({"_id": 1}, {"$set": {"paid": True}, "$unset": {"region": 1}})
            orders.replace_one({"_id": 2}, {"paid": False})
            orders.delete_one({"_id": 1})
            orders.drop()
            events = list(stream)
    assert [event["operationType"] for event in events] == [
        *("insert", "insert", "update", "replace", "delete", "drop", "invalidate")
    ]
    assert events[2]["updateDescription"]["updatedFields"] == {"paid": True}
    assert events[2]["updateDescription"]["removedFields"] == ["region"]
    assert events[3]["fullDocument"] == {"_id": 2, "paid": False}
    sharded = {"region": "north", "_id": 1}
    assert events[0]["documentKey"] == (sharded if character.shard_key else {"_id": 1})
    assert ("wallTime" in events[0]) == (character in (servers.MONGOD, servers.MONGOS))


def test_documents_are_found_again(connect: Callable[..., Client]) -> None:
    with servers.serve() as server:
        orders = connect(server).shop.orders
        server.insert(ORDERS, {"_id": 1, "n": 5}, {"_id": 2, "n": 6})
        assert orders.find_one({"_id": 2}) == {"_id": 2, "n": 6}
        assert [each["_id"] for each in orders.find().sort("$natural", -1).limit(1)] == [2]
        assert orders.update_one({"_id": 3}, {"$set": {"n": 1}}, upsert=True).upserted_id == 3
        assert [each["_id"] for each in orders.find({"n": {"$lt": 6}})] == [1, 3]


def test_an_update_is_looked_up_as_it_is_now(connect: Callable[..., Client]) -> None:
    with servers.serve() as server:
        with connect(server).shop.watch(full_document="updateLookup") as stream:
            server.insert(ORDERS, {"_id": 1})
            server.update(ORDERS, 1, {"$set": {"n": 1}})
            server.update(ORDERS, 1, {"$inc": {"n": 1}})
            events = [stream.next() for _ in range(3)]
        assert [event["fullDocument"] for event in events[1:]] == [{"_id": 1, "n": 2}] * 2


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        (lambda client: client.shop.orders, ["a", "drop", "invalidate"]),
        (lambda client: client.shop, ["a", "b", "drop", "drop", "dropDatabase", "invalidate"]),
        (lambda client: client, ["a", "b", "c", "drop", "drop", "dropDatabase", "d"]),
    ],
    ids=["collection", "database", "cluster"],
)
def test_a_stream_sees_its_scope_and_ends_with_it(
    scope: Callable[[Client], Any], seen: list[str], connect: Callable[..., Client]
) -> None:
    with servers.serve() as server:
        with scope(connect(server)).watch(max_await_time_ms=50) as stream:
            server.insert(ORDERS, {"_id": "a"})
            server.insert("shop.carts", {"_id": "b"})
            server.insert("bank.accounts", {"_id": "c"})
            server.drop_database("shop")
            server.insert("bank.accounts", {"_id": "d"})
            events = list(iter(stream.try_next, None))
        assert keys(events) == seen


# ----------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("kind", ["high_water", "event", "invalidate"])
@pytest.mark.parametrize("form", [tokens.MongoDBForm(), tokens.DocumentDBForm()])
def test_a_token_says_what_it_was_made_of(form: tokens.Form, kind: tokens.Kind) -> None:
    collection = "" if kind == "high_water" else "fb0971ba-9af4-5e62-b59a-e1a131e78955"
    token = form.token(tokens.Place(Timestamp(1_700_000_000, 7), kind, collection))
    place = form.place(token)
    assert (place.time, place.kind) == (Timestamp(1_700_000_000, 7), kind)
    prefix = "01" if isinstance(form, tokens.DocumentDBForm) else "82"
    assert token["_data"].lower().startswith(f"{prefix}6553f10000000007")


def test_a_stream_resumes_after_any_token(connect: Callable[..., Client]) -> None:
    with servers.serve() as server:
        orders = connect(server).shop.orders
        with orders.watch(max_await_time_ms=50) as stream:
            server.insert(ORDERS, {"_id": 1}, {"_id": 2})
            first, second = stream.next(), stream.next()
            server.foreign(3)
            assert stream.try_next() is None
            quiet = dict(stream.resume_token or {})
        assert time_of(quiet) == server.oplog.last_time > second["clusterTime"]
        server.insert(ORDERS, {"_id": 3})
        for token, seen in ((first["_id"], [2, 3]), (second["_id"], [3]), (quiet, [3])):
            with orders.watch(resume_after=token, max_await_time_ms=50) as stream:
                assert keys(list(iter(stream.try_next, None))) == seen
        with orders.watch(start_at_operation_time=second["clusterTime"]) as stream:
            assert keys([stream.next(), stream.next()]) == [2, 3]


def test_only_start_after_goes_on_after_an_invalidate(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        orders = connect(server).shop.orders
        with orders.watch() as stream:
            server.insert(ORDERS, {"_id": 1})
            server.drop(ORDERS)
            server.insert(ORDERS, {"_id": 2})
            _, drop, invalidate = list(stream)
        with orders.watch(start_after=invalidate["_id"]) as stream:
            assert keys([stream.next()]) == [2]
        with orders.watch(resume_after=drop["_id"]) as stream:
            assert keys(list(stream)) == ["invalidate"]
        with pytest.raises(OperationFailure) as refused:
            orders.watch(resume_after=invalidate["_id"])
        assert refused.value.code == 260


@pytest.mark.parametrize(
    "character", [servers.MONGODB_4_0, servers.DOCUMENTDB_8], ids=["4.0", "DocumentDB"]
)
def test_a_server_without_start_after_refuses_it(
    character: servers.Character, connect: Callable[..., Client]
) -> None:
    with servers.serve(character) as server:
        orders = connect(server).shop.orders
        with orders.watch() as stream:
            server.insert(ORDERS, {"_id": 1})
            token = stream.next()["_id"]
        with pytest.raises(OperationFailure) as refused:
            orders.watch(start_after=token)
        assert refused.value.code == 40415


@pytest.mark.parametrize(
    ("character", "code"),
    [(servers.MONGOD, 286), (servers.DOCUMENTDB_5, 136)],
    ids=["mongod", "DocumentDB"],
)
def test_what_left_the_oplog_is_refused_when_the_oplog_is_first_read(
    character: servers.Character, code: int, connect: Callable[..., Client]
) -> None:
    with servers.serve(character) as server:
        client = connect(server)
        token = opened(client)["postBatchResumeToken"]
        server.insert(ORDERS, {"_id": 1})
        server.noop(5)
        server.prune()
        cursor_id = opened(client, resumeAfter=token)["id"]
        with pytest.raises(OperationFailure) as lost:
            more(client, cursor_id)
        assert lost.value.code == code
        with pytest.raises(OperationFailure):
            opened(client, None, resumeAfter=token)


def test_an_open_cursor_does_not_skip_what_is_truncated_before_it(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        assert more(client, cursor_id)["nextBatch"] == []
        server.insert(ORDERS, {"_id": 1}, {"_id": 2})
        server.prune()
        with pytest.raises(OperationFailure) as lost:
            more(client, cursor_id)
        assert lost.value.code == 286


def test_another_deployments_event_is_missed_but_its_high_water_mark_is_not(
    connect: Callable[..., Client],
) -> None:
    with servers.serve(starts_at_s=1_700_000_000) as other:
        client = connect(other)
        cursor_id = opened(client)["id"]
        other.insert(ORDERS, {"_id": 1})
        answer = more(client, cursor_id)
        event, mark = answer["nextBatch"][0]["_id"], opened(client)["postBatchResumeToken"]
    with servers.serve() as server:
        client = connect(server)
        server.insert(ORDERS, {"_id": 2})
        assert keys(opened(client, None, resumeAfter=mark)["firstBatch"]) == [2]
        with pytest.raises(OperationFailure) as missed:
            opened(client, None, resumeAfter=event)
        assert missed.value.code == 280


def test_documentdbs_tokens_are_its_own(connect: Callable[..., Client]) -> None:
    unpatched = replace(servers.DOCUMENTDB_5, post_batch_tokens=False)
    with servers.serve(unpatched) as server:
        client = connect(server)
        assert "postBatchResumeToken" not in opened(client)
        with pytest.raises(OperationFailure) as refused:
            opened(client, resumeAfter={"_data": "826553F100000000072B0429296E1404"})
        assert refused.value.code == 9
    with servers.serve(servers.DOCUMENTDB_8) as server:
        client = connect(server)
        assert opened(client)["postBatchResumeToken"]["_data"].startswith("01")
        with pytest.raises(OperationFailure) as refused:
            opened(client, stages=({"$changeStreamSplitLargeEvent": {}},))
        assert refused.value.code == 304


# --------------------------------------------------------------------------------------- the close


def close_of(
    character: servers.Character, limit: int | None, connect: Callable[..., Client]
) -> list[tuple[list[Any], bool, str]]:
    """Each answer: its changes, whether the cursor is open, and its token's kind."""
    with servers.serve(character) as server:
        client = connect(server)
        cursor = opened(client)
        server.insert(ORDERS, {"_id": 1})
        server.drop(ORDERS)
        answers: list[tuple[list[Any], bool, str]] = []
        while cursor["id"]:
            given = {} if limit is None else {"batchSize": limit}
            cursor = more(client, cursor["id"], **given)
            token = cursor.get("postBatchResumeToken")
            kind = tokens.MongoDBForm().place(token).kind if token else "none"
            answers.append((keys(cursor["nextBatch"]), bool(cursor["id"]), kind))
        return answers


ALL = [1, "drop", "invalidate"]


@pytest.mark.parametrize(
    ("traits", "limit", "answers"),
    [
        ({}, None, [(ALL, False, "invalidate")]),
        ({}, 3, [(ALL, True, "invalidate"), ([], False, "invalidate")]),
        ({}, 4, [(ALL, False, "invalidate")]),
        ({"closes_late": True}, None, [(ALL, True, "invalidate"), ([], False, "invalidate")]),
        ({"closing_token": "absent"}, None, [(ALL, False, "none")]),
        (
            {"closes_late": True, "closing_token": "absent"},
            None,
            [(ALL, True, "invalidate"), ([], False, "none")],
        ),
    ],
    ids=["at once", "full batch", "room left", "late", "no token", "late, no token"],
)
def test_the_close_comes_with_the_invalidate_or_one_answer_late(
    traits: dict[str, Any],
    limit: int | None,
    answers: list[Any],
    connect: Callable[..., Client],
) -> None:
    assert close_of(replace(servers.MONGOD, **traits), limit, connect) == answers


def test_a_hidden_invalidate_closes_with_its_own_token(
    connect: Callable[..., Client],
) -> None:
    only_inserts = ({"$match": {"operationType": "insert"}},)
    with servers.serve() as server:
        client = connect(server)
        cursor_id = opened(client, stages=only_inserts)["id"]
        server.insert(ORDERS, {"_id": 1})
        server.drop(ORDERS)
        answer = more(client, cursor_id)
    assert (keys(answer["nextBatch"]), answer["id"]) == ([1], 0)
    assert tokens.MongoDBForm().place(answer["postBatchResumeToken"]).kind == "invalidate"


# ------------------------------------------------------------------------------------------- scans


def test_an_aggregate_scans_to_its_first_batch_and_with_none_not_at_all(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        client = connect(server)
        start = server.oplog.last_time
        server.insert(ORDERS, *({"_id": n} for n in range(150)))
        assert opened(client, startAtOperationTime=start)["firstBatch"] == []
        assert len(opened(client, None, startAtOperationTime=start)["firstBatch"]) == 101
        assert len(opened(client, 7, startAtOperationTime=start)["firstBatch"]) == 7


@pytest.mark.parametrize(
    ("character", "takes_s"),
    [
        (servers.MONGOD_LONG_SCANS, (0.7, 5.0)),
        (servers.MONGOD_EMPTIES, (0.05, 0.6)),
        (servers.MONGOS, (0.05, 0.6)),
    ],
    ids=["long", "moved", "unmoved"],
)
def test_a_scan_that_finds_nothing_ends_as_the_server_is(
    character: servers.Character,
    takes_s: tuple[float, float],
    connect: Callable[..., Client],
) -> None:
    with servers.serve(replace(character, scan_cost_s=SLOW)) as server:
        client = connect(server)
        start = server.oplog.last_time
        server.foreign(1_000)
        cursor = opened(client, startAtOperationTime=start)
        begun_s = time.monotonic()
        answer = more(client, cursor["id"])
        took_s = time.monotonic() - begun_s
        before, after = (time_of(each["postBatchResumeToken"]) for each in (cursor, answer))
    assert answer["nextBatch"] == []
    assert takes_s[0] <= took_s < takes_s[1]
    if character.scanning == "long":
        assert after == server.oplog.last_time
    if character.scanning == "moved":
        assert before < after < server.oplog.last_time
    if character.scanning == "unmoved":
        assert before == after


def test_every_empty_answer_gets_further_until_the_event(
    connect: Callable[..., Client],
) -> None:
    """With an unmoved token as well: the shards scan on between two getMores."""
    for character in (servers.MONGOD_EMPTIES, replace(servers.MONGOS, scan_cost_s=SLOW)):
        with servers.serve(character) as server:
            client = connect(server)
            cursor_id = opened(client)["id"]
            server.foreign(400)
            server.insert(ORDERS, {"_id": 1})
            answers = 1
            while not (batch := more(client, cursor_id)["nextBatch"]):
                answers += 1
            assert keys(batch) == [1]
            assert 2 < answers < 10


def test_the_shards_scan_on_between_two_getmores(connect: Callable[..., Client]) -> None:
    with servers.serve(replace(servers.MONGOS, scan_cost_s=SLOW)) as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        server.foreign(1_000)
        server.insert(ORDERS, {"_id": 1})
        begun_s = time.monotonic()
        assert more(client, cursor_id)["nextBatch"] == []
        assert eventually(lambda: time.monotonic() - begun_s > 0.8)
        assert keys(more(client, cursor_id)["nextBatch"]) == [1]


@pytest.mark.parametrize(("limit", "first"), [(1, [1]), (None, [1, 2])])
def test_only_a_full_batch_makes_mongod_answer_before_the_end(
    limit: int | None, first: list[int], connect: Callable[..., Client]
) -> None:
    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        server.insert(ORDERS, {"_id": 1})
        server.foreign(200)
        server.insert(ORDERS, {"_id": 2})
        given = {} if limit is None else {"batchSize": limit}
        assert keys(more(client, cursor_id, **given)["nextBatch"]) == first


def test_a_cold_shard_holds_back_event_and_token(
    connect: Callable[..., Client],
) -> None:
    with servers.serve(replace(servers.MONGOS, cold_shard_s=0.15)) as server:
        client = connect(server)
        cursor = opened(client)
        server.insert(ORDERS, {"_id": 1, "region": "north"})
        answer = more(client, cursor["id"])
        assert answer["nextBatch"] == []
        assert time_of(answer["postBatchResumeToken"]) <= server.oplog.last_time
        assert keys(more(client, cursor["id"], maxTimeMS=500)["nextBatch"]) == [1]


def test_a_waiting_getmore_answers_when_something_is_written(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        threading.Timer(0.05, server.insert, (ORDERS, {"_id": 1})).start()
        begun_s = time.monotonic()
        assert keys(more(client, cursor_id, maxTimeMS=5000)["nextBatch"]) == [1]
        assert time.monotonic() - begun_s < 2


def test_a_scan_goes_on_without_its_client_until_it_is_killed(
    connect: Callable[..., Client],
) -> None:
    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        server.foreign(5000)
        with pytest.raises(NetworkTimeout), pymongo.timeout(0.1):
            more(client, cursor_id)
        assert (server.scans_running, server.scans_left_behind) == (1, 1)
        client.shop.command("killCursors", "orders", cursors=[cursor_id])
        assert eventually(lambda: not server.scans_running)
        assert (server.scans_running, server.scans_left_behind) == (0, 0)


def test_a_scan_that_nobody_killed_stays_counted(
    connect: Callable[..., Client],
) -> None:
    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        server.foreign(400)
        with pytest.raises(NetworkTimeout), pymongo.timeout(0.05):
            more(client, cursor_id)
        assert eventually(lambda: not server.scans_running)
        assert (server.scans_running, server.scans_left_behind) == (0, 1)


def test_a_disconnect_ends_an_aggregates_scan(connect: Callable[..., Client]) -> None:
    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        start = server.oplog.last_time
        server.foreign(5000)
        client = connect(server, socketTimeoutMS=200, retryReads=False)
        with pytest.raises(NetworkTimeout):
            client.shop.orders.watch(start_at_operation_time=start)
        assert eventually(lambda: not server.scans_running)


def test_an_aggregates_own_limit_ends_its_scan(connect: Callable[..., Client]) -> None:
    with servers.serve(servers.MONGOD_LONG_SCANS) as server:
        start = server.oplog.last_time
        server.foreign(5000)
        stages = [{"$changeStream": {"startAtOperationTime": start}}]
        command: dict[str, Any] = {"pipeline": stages, "cursor": {}}
        with pytest.raises(ExecutionTimeout) as expired:
            connect(server).shop.command("aggregate", "orders", maxTimeMS=100, **command)
        assert expired.value.code == 50


# ------------------------------------------------------------------------------------------ faults


def test_faults_strike_in_order_and_only_their_command(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        client = connect(server)
        server.faults.fail("getMore", 99_999, skip=1)
        server.faults.fail("getMore", 11601, resumable=True)
        cursor_id = opened(client)["id"]
        more(client, cursor_id)
        with pytest.raises(OperationFailure) as plain:
            more(client, cursor_id)
        with pytest.raises(OperationFailure) as labelled:
            more(client, cursor_id)
        assert (plain.value.code, labelled.value.code) == (99_999, 11601)
        assert not plain.value.has_error_label("ResumableChangeStreamError")
        assert labelled.value.has_error_label("ResumableChangeStreamError")
        assert server.faults.are_over


def test_a_watch_outlives_a_closed_connection_and_a_step_down(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        with connect(server).shop.orders.watch(max_await_time_ms=50) as stream:
            server.insert(ORDERS, {"_id": 1})
            assert keys([stream.next()]) == [1]
            server.faults.close_connection("getMore")
            server.insert(ORDERS, {"_id": 2})
            assert keys([stream.next()]) == [2]
            server.step_down()
            server.insert(ORDERS, {"_id": 3})
            assert keys([stream.next()]) == [3]
        assert server.count("aggregate") == 3


def test_a_stepped_down_node_is_no_primary_for_a_while(
    connect: Callable[..., Client],
) -> None:
    with servers.serve() as server:
        client = connect(server)
        server.step_down(for_s=0.3)
        with pytest.raises(NotPrimaryError):
            opened(client)
        assert eventually(lambda: server.is_primary)
        assert opened(client)["id"]


@pytest.mark.parametrize("code", [43, 237])
def test_killed_cursors_answer_what_they_are_told_to(
    code: int, connect: Callable[..., Client]
) -> None:
    with servers.serve() as server:
        client = connect(server)
        cursor_id = opened(client)["id"]
        server.kill_cursors(code)
        with pytest.raises(OperationFailure) as killed:
            more(client, cursor_id)
        assert killed.value.code == code


@pytest.mark.parametrize("code", [13, 20, 8000])
def test_the_oplogs_first_entry_is_read_or_refused(
    code: int, connect: Callable[..., Client]
) -> None:
    def first(server: servers.Server) -> Any:
        return connect(server).local["oplog.rs"].find_one({}, sort=[("$natural", 1)])

    with servers.serve() as server:
        server.noop(10)
        assert first(server)["ts"] == server.oplog.first_time < server.oplog.last_time
        status = connect(server).admin.command("serverStatus", oplog=1)["oplog"]
        assert status["earliestOptime"] == server.oplog.first_time
        assert status["latestOptime"] == server.oplog.last_time
    with (
        servers.serve(replace(servers.MONGOD, reads_refused=code)) as server,
        pytest.raises(OperationFailure) as refused,
    ):
        first(server)
    assert refused.value.code == code


def test_sixty_thousand_entries_take_no_time_and_the_clock_is_set() -> None:
    with servers.serve() as server:
        server.set_time(1_800_000_000)
        begun_s = time.monotonic()
        server.foreign(60_000)
        assert time.monotonic() - begun_s < 0.1
        assert server.oplog.last_time == Timestamp(1_800_000_000, 60_000)
        server.advance(60)
        server.noop()
        assert server.oplog.last_time.time >= 1_800_000_060


def test_no_thread_stays(connect: Callable[..., Client]) -> None:
    with servers.serve() as server:
        before = set(threading.enumerate())
        client = connect(server)
        cursor_id = opened(client)["id"]
        waiting = threading.Thread(target=_ignored, args=(client, cursor_id))
        waiting.start()
        assert eventually(lambda: server.scans_running == 1)
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 5
    waiting.join(2)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert {name for name in left if not name.startswith("pymongo")} == set()


def _ignored(client: Client, cursor_id: int) -> None:
    with pytest.raises(pymongo.errors.PyMongoError):
        more(client, cursor_id, maxTimeMS=60_000)


# ---------------------------------------------------------------------------------------- pipeline

EVENT = {
    "_id": 1,
    "operationType": "insert",
    "clusterTime": Timestamp(1_700_000_000, 1),
    "fullDocument": {"_id": 7, "total": 12, "tags": ["a"]},
}


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ({"$match": {"operationType": "insert", "fullDocument.total": {"$gt": 11}}}, EVENT),
        ({"$match": {"$or": [{"operationType": {"$in": ["drop"]}}, {"_id": 2}]}}, None),
        ({"$match": {"fullDocument.tags": "a", "gone": {"$exists": False}}}, EVENT),
        ({"$match": {"fullDocument.total": {"$gt": "text"}}}, None),
        ({"$project": {"fullDocument.total": 1}}, {"_id": 1, "fullDocument": {"total": 12}}),
        ({"$project": {"_id": 0, "n": "$fullDocument._id"}}, {"n": 7}),
        (
            {"$unset": ["clusterTime", "operationType", "fullDocument.tags"]},
            {"_id": 1, "fullDocument": {"_id": 7, "total": 12}},
        ),
        ({"$replaceWith": {"_id": "$_id", "op": {"$literal": "$x"}}}, {"_id": 1, "op": "$x"}),
        (
            {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$fullDocument", {"_id": "$_id"}]}}},
            {"_id": 1, "total": 12, "tags": ["a"]},
        ),
        ({"$replaceWith": "$fullDocument"}, EVENT["fullDocument"]),
    ],
)
def test_a_stage_does_what_mongodbs_does(
    stage: dict[str, Any], shown: dict[str, Any] | None
) -> None:
    validate([stage])
    assert apply([stage], EVENT) == shown


def test_a_field_is_set_and_a_timestamp_retyped() -> None:
    stages = [{"$set": {"clusterTime": {"$toDate": "$clusterTime"}, "operationType": "x"}}]
    shown = apply(stages, EVENT)
    assert shown is not None
    assert shown["operationType"] == "x"
    assert shown["clusterTime"].timestamp() == 1_700_000_000


@pytest.mark.parametrize(
    ("stage", "code"),
    [({"$facet": {}}, 40324), ({"$match": {"a": {"$inn": [1]}}}, 2), ({"$match": {"$x": 1}}, 2)],
)
def test_what_is_not_known_is_refused(stage: dict[str, Any], code: int) -> None:
    with pytest.raises(CommandError) as refused:
        validate([stage])
    assert refused.value.code == code


def test_an_event_without_its_id_is_fatal(connect: Callable[..., Client]) -> None:
    with servers.serve() as server:
        client = connect(server)
        cursor_id = opened(client, stages=({"$project": {"_id": 0}},))["id"]
        server.insert(ORDERS, {"_id": 1})
        with pytest.raises(OperationFailure) as fatal:
            more(client, cursor_id)
        assert fatal.value.code == 280
