"""MongoDB itself: what is watched and how, and how each failure is told."""

from __future__ import annotations

import struct
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import bson
import pymongo
import pytest
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

import mongodb
from service import key_of
from tcp_proxy import silent_server
from tidemark.errors import (
    ConfigError,
    EventTooLarge,
    HistoryLost,
    OpeningTimedOut,
    SourceRefused,
    SourceUnavailable,
)
from tidemark.model import Position, ReadEnd, Undecodable
from tidemark.mongodb.answer_size import AnswerSize
from tidemark.mongodb.capabilities import Capabilities
from tidemark.mongodb.raw_intake import RawIntake
from tidemark.mongodb.reader import Answers
from tidemark.mongodb.replies import Reply
from tidemark.ports import ReadLimits
from tidemark.readahead import one_thread
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from tcp_proxy import Proxy
    from tidemark.model import Change
    from tidemark.mongodb.source import MongoSource
    from tidemark.ports import Reader

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Connect: TypeAlias = Callable[..., MongoSource]

ANY = ReadLimits(max_changes=1000)
NEAR_MS = 1_767_225_600_123
FAR_MS = 884_541_600_000_000  # in the year 30000


def open_at(source: MongoSource, stream: StreamSettings, position: Position) -> Reader:
    return source.open(stream, position, timeout_s=5, batch_size=None)


def open_now(source: MongoSource, stream: StreamSettings) -> Reader:
    return open_at(source, stream, source.now(timeout_s=5))


def drain(reader: Reader, limits: ReadLimits = ANY) -> list[Change]:
    """All that is there; the stream is closed."""
    changes: list[Change] = []
    end = ReadEnd.FULL
    while end not in (ReadEnd.EMPTY, ReadEnd.INVALIDATED):
        read = reader.read(limits, timeout_s=5)
        changes += read.changes
        end = read.end
    reader.close(timeout_s=1)
    return changes


def keys_of(changes: list[Change]) -> list[Any]:
    return [key_of(change) for change in changes]


def fail_command(database: Db, mode: Any, **data: Any) -> None:
    """Arm the server's own failpoint."""
    database.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


@pytest.fixture(autouse=True)
def _disarmed(database: Db) -> Iterator[None]:
    yield
    database.client.admin.command("configureFailPoint", "failCommand", mode="off")


# --------------------------------------------------------------------------------- what is watched


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        ({}, ["mine"]),
        ({"collection": None}, ["mine", "other collection"]),
        ({"collection": None, "database": None}, ["mine", "other collection", "other database"]),
    ],
    ids=["collection", "database", "deployment"],
)
def test_each_scope_sees_its_own(
    scope: dict[str, None], seen: list[str], database: Db, orders: Orders, connect: Connect
) -> None:
    reader = open_now(connect(), orders(**scope))
    other = database.client[f"{database.name}_other"]
    database.orders.insert_one({"_id": "mine"})
    database.others.insert_one({"_id": "other collection"})
    other.orders.insert_one({"_id": "other database"})
    database.client.drop_database(other.name)
    changes = drain(reader)
    assert [key_of(each) for each in changes if each["operationType"] == "insert"] == seen


def test_the_pipeline_is_the_servers_work(database: Db, orders: Orders, connect: Connect) -> None:
    pipeline = (
        {"$match": {"fullDocument.size": {"$gt": 1}}},
        {"$project": {"fullDocument.text": 0}},
    )
    reader = open_now(connect(), orders(pipeline=pipeline))
    database.orders.insert_many([{"_id": key, "size": key, "text": "x"} for key in range(4)])
    documents = [change["fullDocument"] for change in drain(reader)]
    assert documents == [{"_id": 2, "size": 2}, {"_id": 3, "size": 3}]


def test_the_options_of_a_stream_reach_the_server(
    database: Db, orders: Orders, connect: Connect
) -> None:
    database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    options = {"full_document": "updateLookup", "full_document_before_change": "required"}
    reader = open_now(connect(), orders(**options))
    database.orders.insert_one({"_id": 1, "x": 1})
    database.orders.update_one({"_id": 1}, {"$set": {"x": 2}})
    _, update = drain(reader)
    assert update["fullDocument"] == {"_id": 1, "x": 2}
    assert update["fullDocumentBeforeChange"] == {"_id": 1, "x": 1}


@pytest.mark.parametrize("expanded", [True, False])
def test_expanded_events_come_when_asked_for(
    expanded: bool, database: Db, orders: Orders, connect: Connect
) -> None:
    reader = open_now(connect(), orders(show_expanded_events=expanded))
    database.create_collection("orders")
    database.orders.create_index("x")
    assert bool(drain(reader)) is expanded


def test_a_collection_that_does_not_exist_yet_is_watched_all_the_same(
    database: Db, orders: Orders, connect: Connect
) -> None:
    reader = open_now(connect(), orders())
    assert reader.read(ANY, timeout_s=5).end is ReadEnd.EMPTY
    database.orders.insert_one({"_id": 1})
    assert keys_of(drain(reader)) == [1]


def test_a_required_image_that_is_missing_is_refused_with_the_remedy(
    database: Db, orders: Orders, connect: Connect
) -> None:
    database.orders.insert_one({"_id": 1})
    reader = open_now(connect(), orders(full_document_before_change="required"))
    database.orders.update_one({"_id": 1}, {"$set": {"x": 2}})
    with pytest.raises(SourceRefused, match=r"code 47.*enable changeStreamPreAndPostImages"):
        drain(reader)
    reader.close(timeout_s=1)


# ------------------------------------------------------------------------------------------ limits


def test_bytes_are_counted_exactly(database: Db, orders: Orders, connect: Connect) -> None:
    source = connect()
    start = source.now(timeout_s=5)
    database.orders.insert_many([{"_id": key, "text": "x" * 500} for key in range(4)])
    reader = open_at(source, orders(max_bytes=1), start)
    each = [reader.read(ReadLimits(10, max_bytes=1), timeout_s=5) for _ in range(4)]
    reader.close(timeout_s=1)
    assert [len(read.changes) for read in each] == [1, 1, 1, 1]
    size = len(bson.encode(each[0].changes[0]))
    for limit, expected in ((2 * size, 2), (2 * size - 1, 1)):
        reader = open_at(source, orders(max_bytes=limit), start)
        read = reader.read(ReadLimits(10, max_bytes=limit), timeout_s=5)
        reader.close(timeout_s=1)
        assert (len(read.changes), read.end) == (expected, ReadEnd.FULL)


@pytest.mark.parametrize("max_bytes", [None, 1_000_000], ids=["direct", "raw"])
def test_a_young_batch_waits_for_more(
    max_bytes: int | None, database: Db, orders: Orders, connect: Connect
) -> None:
    reader = open_now(connect(max_await_ms=1000), orders(max_bytes=max_bytes))
    database.orders.insert_one({"_id": 0})
    later = threading.Timer(0.1, database.orders.insert_one, [{"_id": 1}])
    later.start()
    read = reader.read(ReadLimits(2, max_bytes=max_bytes, max_age_s=5), timeout_s=5)
    later.join()
    reader.close(timeout_s=1)
    assert keys_of(list(read.changes)) == [0, 1]


@pytest.mark.parametrize("max_bytes", [None, 10_000_000], ids=["direct", "raw"])
def test_a_read_takes_all_that_the_server_sent_and_no_more(
    max_bytes: int | None, database: Db, orders: Orders, connect: Connect
) -> None:
    """Delivery must not wait for the next answer."""
    source = connect(max_await_ms=1000)
    start = source.now(timeout_s=5)
    database.orders.insert_many([{"_id": key} for key in range(150)])
    reader = open_at(source, orders(max_bytes=max_bytes), start)
    began_s = time.monotonic()
    changes: list[Change] = []
    while len(changes) < 150:
        read = reader.read(ReadLimits(1000, max_bytes=max_bytes), timeout_s=5)
        assert read.end is ReadEnd.DRAINED
        changes += read.changes
    assert time.monotonic() - began_s < 1
    reader.close(timeout_s=1)
    assert keys_of(changes) == list(range(150))


@pytest.mark.parametrize("max_bytes", [None, 10_000_000], ids=["direct", "raw"])
def test_two_threads_that_read_by_turns_take_all_that_the_server_sent(
    max_bytes: int | None, database: Db, orders: Orders, connect: Connect
) -> None:
    """As with `read_ahead`: an empty answer of one says nothing of a later answer to the other."""
    reader = open_now(connect(), orders(max_bytes=max_bytes))
    limits = ReadLimits(60, max_bytes=max_bytes)
    with one_thread() as other:
        assert other.submit(reader.read, limits, timeout_s=5).result().end is ReadEnd.EMPTY
        database.orders.insert_many([{"_id": key} for key in range(100)])
        here = reader.read(limits, timeout_s=5)
        there = other.submit(reader.read, limits, timeout_s=5).result()
    reader.close(timeout_s=1)
    assert [len(read.changes) for read in (here, there)] == [60, 40]


# ----------------------------------------------------------------------------------- odd documents


def test_a_date_beyond_pythons_is_no_poison(
    proxy: Proxy, database: Db, orders: Orders, connect: Connect
) -> None:
    """The embedded server takes no such date, so it is put in on the way."""
    near, far = (struct.pack("<q", milliseconds) for milliseconds in (NEAR_MS, FAR_MS))
    proxy.damage = (near, far)
    reader = open_now(connect(proxy.mongodb_uri), orders())
    near_date = datetime.fromtimestamp(NEAR_MS / 1000, UTC)
    database.orders.insert_one({"_id": 1, "date": near_date})
    [change] = drain(reader)
    assert change["fullDocument"]["date"] == DatetimeMS(FAR_MS)
    assert isinstance(change["wallTime"], datetime)


@pytest.mark.parametrize("max_bytes", [None, 1_000_000], ids=["direct", "raw"])
@pytest.mark.parametrize("opened", ["before", "after"])
def test_an_undecodable_document_is_alone_in_its_read(
    opened: str,
    max_bytes: int | None,
    proxy: Proxy,
    database: Db,
    orders: Orders,
    connect: Connect,
) -> None:
    """G1, G2: whether it comes with the opening or with a later answer."""
    proxy.damage = (b"bad ? text", b"bad \xff text")
    source, stream = connect(proxy.mongodb_uri), orders(max_bytes=max_bytes)
    start = source.now(timeout_s=5)
    reader = open_at(source, stream, start) if opened == "before" else None
    texts = ["good", "good", "bad ? text", "good", "bad ? text", "bad ? text"]
    database.orders.insert_many([{"_id": key, "text": text} for key, text in enumerate(texts)])
    changes = drain(reader or open_at(source, stream, start))
    assert keys_of(changes) == list(range(6))
    poison = [change for change in changes if isinstance(change, Undecodable)]
    assert keys_of(list(poison)) == [2, 4, 5]
    assert all(b"bad \xff text" in change.raw for change in poison)
    assert poison[0]["clusterTime"] is not None


@pytest.mark.parametrize("max_bytes", [None, 1_000_000], ids=["direct", "raw"])
def test_an_undecodable_top_level_stops_no_stream(
    max_bytes: int | None, proxy: Proxy, database: Db, orders: Orders, connect: Connect
) -> None:
    """G1: a pipeline may lift a field to where the driver itself looks."""
    proxy.damage = (b"bad ? text", b"bad \xff text")
    pipeline = ({"$addFields": {"text": "$fullDocument.text"}}, {"$unset": "fullDocument"})
    reader = open_now(connect(proxy.mongodb_uri), orders(pipeline=pipeline, max_bytes=max_bytes))
    texts = ["good", "bad ? text", "good", "bad ? text"]
    database.orders.insert_many([{"_id": key, "text": text} for key, text in enumerate(texts)])
    changes = drain(reader)
    assert keys_of(changes) == list(range(4))
    poison = [change for change in changes if isinstance(change, Undecodable)]
    assert keys_of(list(poison)) == [1, 3]
    assert all(b"bad \xff text" in change.raw for change in poison)


def test_an_undecodable_document_repeats_nothing_of_the_read_that_met_it(
    proxy: Proxy, database: Db, orders: Orders, connect: Connect
) -> None:
    """G3: the stream is opened again behind what this very read has taken."""
    proxy.damage = (b"bad ? text", b"bad \xff text")
    reader = open_now(connect(proxy.mongodb_uri, max_await_ms=1000), orders())
    database.orders.insert_one({"_id": 0})
    bad = {"_id": 1, "text": "bad ? text"}
    later = threading.Timer(0.15, database.orders.insert_one, [bad])
    later.start()
    read = reader.read(ReadLimits(2, max_age_s=5), timeout_s=5)
    later.join()
    assert keys_of([*read.changes, *drain(reader)]) == [0, 1]


# ------------------------------------------------------------------------------------ large events


@pytest.fixture
def large_update(database: Db) -> Callable[[], None]:
    """Makes an update whose images together are over 16 MB."""
    database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    database.orders.insert_one({"_id": "large", "text": "a" * 9_000_000})

    def update() -> None:
        database.orders.update_one({"_id": "large"}, {"$set": {"text": "b" * 9_000_000}})
        database.orders.insert_one({"_id": "after"})

    return update


LARGE = {"full_document": "required", "full_document_before_change": "required"}


def test_fragments_become_one_change(
    large_update: Callable[[], None], orders: Orders, connect: Connect
) -> None:
    """G1, G3: its `_id` is the last fragment's, behind which the stream continues."""
    source, stream = connect(), orders(split_large_events=True, **LARGE)
    reader = open_now(source, stream)
    large_update()
    large, after = drain(reader)
    assert large["fullDocumentBeforeChange"]["text"] == "a" * 9_000_000
    assert large["fullDocument"]["text"] == "b" * 9_000_000
    assert (large["operationType"], "splitEvent" in large) == ("update", False)
    assert key_of(after) == "after"
    behind = open_at(source, stream, Position(resume_token=large["_id"]))
    assert keys_of(drain(behind)) == ["after"]


class ScriptedStream:
    """A driver's stream, and what its monitoring tells: each getMore brings a document, or None."""

    alive = True
    resume_token: ClassVar[dict[str, str]] = {"_data": "past the fragment"}

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self._answers = iter(answers)
        self._cursor = SimpleNamespace(alive=True)
        self._reply: Reply | None = None

    def try_next(self) -> RawBSONDocument | None:
        answer = next(self._answers)
        self._reply = Reply(
            is_get_more=True,
            size=int(answer is not None),
            is_closing=False,
            token=self.resume_token,
            operation_time=None,
        )
        return None if answer is None else RawBSONDocument(bson.encode(answer))

    def take(self) -> Reply | None:
        reply, self._reply = self._reply, None
        return reply


def test_an_empty_answer_between_fragments_brings_no_token() -> None:
    """G1: a checkpoint there would lose the change's beginning."""
    first = {"_id": {"_data": "1"}, "splitEvent": {"fragment": 1, "of": 2}, "a": 1}
    last = {"_id": {"_data": "2"}, "splitEvent": {"fragment": 2, "of": 2}, "b": 2}
    stream: Any = ScriptedStream(first, None, last, None)
    intake = RawIntake(
        stream,
        Answers(stream, None, AnswerSize(await_s=0.1), lambda _: True),
        CodecOptions(),
    )
    reads = [intake.take([], ANY) for _ in range(3)]
    assert [read.resume_token for read in reads] == [None, None, stream.resume_token]
    assert reads[1].changes == [{"_id": {"_data": "2"}, "a": 1, "b": 2}]


def test_a_large_event_without_splitting_is_refused_with_the_remedy(
    database: Db, orders: Orders, connect: Connect
) -> None:
    """The embedded server sends events of any size; the code is a real one's."""
    reader = open_now(connect(), orders())
    fail_command(database, {"times": 1}, failCommands=["getMore"], errorCode=10334)
    with pytest.raises(EventTooLarge, match=r"over 16 MB .*set split_large_events = true"):
        reader.read(ANY, timeout_s=5)
    reader.close(timeout_s=1)


# ------------------------------------------------------------------------------- refusals by server


def test_a_position_that_left_the_oplog_is_lost_history(connect: Connect) -> None:
    with (
        mongodb.serve(mongodb.Options(oplog_max_entries=100)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        source = connect(server.uri)
        stream = StreamSettings(name="orders", database="shop", collection="orders")
        reader = open_now(source, stream)
        client.shop.orders.insert_one({"_id": 0})
        [change] = drain(reader)
        for _ in range(5):
            client.shop.noise.insert_many([{} for _ in range(200)])
        with pytest.raises(HistoryLost) as lost:
            drain(open_at(source, stream, Position(resume_token=change["_id"])))
        source.close()
    assert lost.value.code == 286


def test_a_token_of_nowhere_is_told_by_its_code(orders: Orders, connect: Connect) -> None:
    source = connect()
    with pytest.raises((HistoryLost, SourceRefused), match=r"code \d+"):
        drain(open_at(source, orders(), Position(resume_token={"_data": "no token"})))


def test_a_standalone_server_is_refused_with_the_remedy(connect: Connect) -> None:
    with mongodb.serve(mongodb.Options(standalone=True)) as server:
        source = connect(server.uri)
        stream = StreamSettings(name="orders")
        with pytest.raises(SourceRefused, match=r"standalone server: start mongod with --replSet"):
            source.now(timeout_s=5)
        with pytest.raises(SourceRefused, match=r"standalone server: start mongod with --replSet"):
            open_at(source, stream, Position(resume_token={"_data": "00"}))
        source.close()


# ---------------------------------------------------------------------------------- the connection


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the user "reader", password "old"; "new" after a rotation."""
    storage: Path = tmp_path_factory.mktemp("guarded")
    roles = ["readWriteAnyDatabase"]
    with (
        mongodb.serve(mongodb.Options(storage=storage)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        client.admin.command("createUser", "reader", pwd="new", roles=roles)
    with mongodb.serve(mongodb.Options(storage=storage, auth=True)) as server:
        yield f"{server.host}:{server.port}"


def _as_reader(address: str, password: str) -> str:
    return f"mongodb://reader:{password}@{address}/?directConnection=true&authSource=admin"


def test_wrong_credentials_are_refused_with_the_remedy(guarded: str, connect: Connect) -> None:
    """G8: and neither user nor password is shown."""
    fetched: list[str] = []

    def fetch() -> str:
        fetched.append(_as_reader(guarded, "wrong-canary"))
        return fetched[-1]

    with pytest.raises(SourceRefused, match=r"code 18.*check the user, the password") as refused:
        connect(fetch).now(timeout_s=5)
    assert "canary" not in str(refused.value)
    assert len(fetched) == 2


def test_a_rotated_secret_is_fetched_again_once(guarded: str, connect: Connect) -> None:
    passwords = iter(["old", "new"])
    source = connect(lambda: _as_reader(guarded, next(passwords)))
    assert source.now(timeout_s=5).operation_time is not None
    assert source.now(timeout_s=5).operation_time is not None


def test_no_connection_string_at_all_is_a_mistake_of_configuration(connect: Connect) -> None:
    with pytest.raises(ConfigError, match="its user or password has an unescaped") as refused:
        connect("mongodb://user:pass:canary@host:port/").now(timeout_s=5)
    assert "canary" not in str(refused.value)


def test_an_unreachable_host_ends_well_inside_the_budget(connect: Connect) -> None:
    """G5."""
    source = connect("mongodb://127.0.0.1:1/?directConnection=true")
    began_s = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"check the host, the network path"):
        source.now(timeout_s=1)
    assert time.monotonic() - began_s < 2
    source.close()


def test_a_silent_host_ends_well_inside_the_budget(connect: Connect) -> None:
    """G5."""
    with silent_server() as port:
        source = connect(f"mongodb://127.0.0.1:{port}/?directConnection=true")
        began_s = time.monotonic()
        with pytest.raises((SourceUnavailable, OpeningTimedOut)):
            source.now(timeout_s=1)
        assert time.monotonic() - began_s < 2
        source.close()


def test_a_client_closed_behind_our_back_is_made_again(
    database: Db, orders: Orders, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[MongoClient[Any]] = []

    def make(*args: Any, **options: Any) -> MongoClient[Any]:
        made.append(MongoClient(*args, **options))
        return made[-1]

    monkeypatch.setattr(pymongo, "MongoClient", make)
    source = connect()
    source.now(timeout_s=5)
    made[0].close()
    reader = open_now(source, orders())
    database.orders.insert_one({"_id": 1})
    assert keys_of(drain(reader)) == [1]
    assert len(made) == 2


def test_a_stalled_server_costs_a_read_its_timeout_and_the_stream_goes_on(
    proxy: Proxy, database: Db, orders: Orders, connect: Connect
) -> None:
    """G5, G1: bounded, and nothing is lost by it."""
    reader = open_now(connect(f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"), orders())
    database.orders.insert_one({"_id": 0})
    assert keys_of(list(reader.read(ANY, timeout_s=5).changes)) == [0]
    proxy.stall()
    database.orders.insert_one({"_id": 1})
    began_s = time.monotonic()
    assert reader.read(ANY, timeout_s=0.5).end is ReadEnd.GIVEN_UP
    assert time.monotonic() - began_s < 1
    proxy.go()
    assert keys_of(drain(reader)) == [1]


def test_closing_waits_for_a_stalled_server_no_longer_than_told(
    proxy: Proxy, orders: Orders, connect: Connect
) -> None:
    """G5."""
    reader = open_now(connect(f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"), orders())
    reader.read(ANY, timeout_s=5)
    proxy.stall()
    began_s = time.monotonic()
    reader.close(timeout_s=0.3)
    assert time.monotonic() - began_s < 0.8


@pytest.mark.parametrize("is_there", [True, False])
def test_closing_tells_whether_a_server_that_was_given_up_is_there(
    is_there: bool, proxy: Proxy, orders: Orders, connect: Connect
) -> None:
    """G11: a scan that takes long is no dead server: it answers on another connection."""
    reader = open_now(connect(proxy.mongodb_uri), orders())
    reader.read(ANY, timeout_s=5)
    proxy.stall()
    assert reader.read(ANY, timeout_s=0.3).end is ReadEnd.GIVEN_UP
    if is_there:
        proxy.go()
    assert reader.close(timeout_s=0.5) is is_there
    proxy.go()


# ------------------------------------------------------------------------------ the driver resumes

INTERRUPTIONS: dict[str, dict[str, Any]] = {
    "connection closed": {"closeConnection": True},
    "not primary": {"errorCode": 10107, "errorLabels": ["ResumableChangeStreamError"]},
    "cursor not found": {"errorCode": 43},
}


@pytest.mark.parametrize("max_bytes", [None, 10_000_000], ids=["direct", "raw"])
@pytest.mark.parametrize("data", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interruption_loses_and_repeats_nothing(
    data: dict[str, Any],
    max_bytes: int | None,
    mongodb_uri: str,
    database: Db,
    orders: Orders,
    connect: Connect,
) -> None:
    """G1, G3: the driver opens the stream again behind what it has returned."""
    source = connect(f"{mongodb_uri}&serverMonitoringMode=poll")  # as on Lambda
    start = source.now(timeout_s=5)
    database.orders.insert_many([{"_id": key} for key in range(100)])
    reader = source.open(orders(max_bytes=max_bytes), start, timeout_s=5, batch_size=20)
    changes: list[Change] = []
    armed = {0, 70}
    while len(changes) < 100:
        if len(changes) in armed:
            armed.remove(len(changes))
            fail_command(database, {"times": 1}, failCommands=["getMore"], **data)
        changes += reader.read(ReadLimits(35, max_bytes=max_bytes), timeout_s=5).changes
    reader.close(timeout_s=1)
    assert keys_of(changes) == list(range(100))


def test_lasting_failure_is_unavailability(database: Db, orders: Orders, connect: Connect) -> None:
    reader = open_now(connect(), orders())
    fail_command(database, "alwaysOn", failCommands=["getMore", "aggregate"], closeConnection=True)
    with pytest.raises(SourceUnavailable, match="reading the stream"):
        reader.read(ANY, timeout_s=2)
    fail_command(database, "off", failCommands=[])
    database.orders.insert_one({"_id": 1})
    reader.close(timeout_s=1)


def test_what_was_read_before_a_failure_is_returned_first(
    database: Db, orders: Orders, connect: Connect
) -> None:
    """G1: it can be delivered and checkpointed."""
    source = connect()
    start = source.now(timeout_s=5)
    database.orders.insert_many([{"_id": key} for key in range(30)])
    reader = source.open(orders(), start, timeout_s=5, batch_size=10)
    first = reader.read(ReadLimits(4), timeout_s=5)
    fail_command(database, "alwaysOn", failCommands=["getMore", "aggregate"], errorCode=13)
    read = reader.read(ReadLimits(100, max_age_s=5), timeout_s=5)
    assert keys_of([*first.changes, *read.changes]) == list(range(10))
    with pytest.raises(SourceRefused, match=r"code 13.*lacks the privileges find and changeStream"):
        reader.read(ANY, timeout_s=5)
    reader.close(timeout_s=1)


# ---------------------------------------------------------------------------------------- earliest


@pytest.mark.parametrize("code", [13, 20, 8000], ids=["MongoDB", "mongos", "Atlas"])
def test_earliest_says_what_it_needs_whoever_refuses_it(
    code: int, mongodb_uri: str, database: Db, connect: Connect
) -> None:
    """G12: one sentence for all; and the client, whose credentials are good, is kept."""
    fetched: list[int] = []

    def fetch() -> str:
        fetched.append(1)
        return mongodb_uri

    source = connect(fetch)
    fail_command(database, "alwaysOn", failCommands=["find"], errorCode=code)
    with pytest.raises(SourceRefused, match=r'"earliest" needs the privilege find on') as refused:
        source.earliest(timeout_s=5)
    assert refused.value.code == code
    assert "a sharded cluster nor Amazon DocumentDB" in str(refused.value)
    assert "give a time instead" in str(refused.value)
    assert type(refused.value) is SourceRefused
    fail_command(database, "off", failCommands=[])
    assert source.earliest(timeout_s=5).operation_time is not None
    assert len(fetched) == 1


def test_a_passing_fault_of_the_oplog_is_no_refusal(database: Db, connect: Connect) -> None:
    source = connect()
    fail_command(database, "alwaysOn", failCommands=["find"], errorCode=11601)
    with pytest.raises(SourceUnavailable, match="code 11601, Interrupted"):
        source.earliest(timeout_s=5)


def test_where_there_is_no_oplog_none_is_asked_for(
    database: Db, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind mongos and on Amazon DocumentDB."""
    monkeypatch.setattr(Capabilities, "has_oplog", False)
    fail_command(database, "alwaysOn", failCommands=["find"], errorCode=4242)
    with pytest.raises(SourceRefused, match='"earliest" needs'):
        connect().earliest(timeout_s=5)


# ----------------------------------------------------------------------------- faults by their code


@pytest.mark.parametrize("code", [43, 63, 133, 134, 150, 234, 237, 11601])
def test_a_passing_fault_at_the_opening_is_unavailability(
    code: int, database: Db, orders: Orders, connect: Connect
) -> None:
    """G11: what the driver resumes at a getMore alone.

    Some codes the driver retries by itself for as long as it has: then the time ends.
    """
    source = connect()
    start = source.now(timeout_s=5)
    fail_command(database, "alwaysOn", failCommands=["aggregate"], errorCode=code)
    with pytest.raises(
        (SourceUnavailable, OpeningTimedOut), match=r"tried again while the run lasts|budget ended"
    ):
        open_at(source, orders(), start)
    fail_command(database, "off", failCommands=[])
    open_at(source, orders(), start).close(timeout_s=1)
