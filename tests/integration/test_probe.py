"""What is asked of a deployment before a stream is opened, and what its answers change."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pymongo.monitoring
import pytest

import mongodb
from service import Recorder, Service, settings_of
from tidemark.errors import HistoryLost, SourceRefused
from tidemark.model import Position
from tidemark.mongodb import capabilities
from tidemark.mongodb.source import MongoSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo import MongoClient
    from pymongo.database import Database
    from pymongo.monitoring import (
        CommandFailedEvent,
        CommandStartedEvent,
        CommandSucceededEvent,
        ConnectionClosedEvent,
        ConnectionCreatedEvent,
    )

    from tidemark.model import Batch
    from tidemark.settings import StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]


class Commands(pymongo.monitoring.CommandListener):
    """Every command of this process since the test began."""

    def __init__(self) -> None:
        self.started_: list[CommandStartedEvent] = []

    @property
    def names(self) -> list[str]:
        return [event.command_name for event in self.started_]

    @property
    def asking(self) -> list[str]:
        """The commands that ask what a server is."""
        return [name for name in self.names if name.lower() in {"hello", "buildinfo"}]

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The `$changeStream` stages that were asked for."""
        found = [event.command for event in self.started_ if event.command_name == "aggregate"]
        return [command["pipeline"][0]["$changeStream"] for command in found]

    def started(self, event: CommandStartedEvent) -> None:
        self.started_.append(event)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


class Connections(pymongo.monitoring.ConnectionPoolListener):
    """How many pooled connections there are, and have been at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._counting = threading.Lock()

    def connection_created(self, _: ConnectionCreatedEvent) -> None:
        with self._counting:
            self.now += 1
            self.most = max(self.most, self.now)

    def connection_closed(self, _: ConnectionClosedEvent) -> None:
        with self._counting:
            self.now -= 1

    def _ignore(self, event: object) -> None:
        """Nothing: only connections count."""

    pool_created = pool_ready = pool_cleared = pool_closed = connection_ready = _ignore
    connection_check_out_started = connection_check_out_failed = _ignore
    connection_checked_out = connection_checked_in = _ignore


COMMANDS, CONNECTIONS = Commands(), Connections()
pymongo.monitoring.register(COMMANDS)
pymongo.monitoring.register(CONNECTIONS)


@pytest.fixture
def commands() -> Commands:
    COMMANDS.started_.clear()
    return COMMANDS


@pytest.fixture
def documentdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server's address becomes one of Amazon DocumentDB's."""
    hints = ((re.compile(r"127\.0\.0\.1"), "Amazon DocumentDB"),)
    monkeypatch.setattr(capabilities, "HINTS", hints)


def test_a_container_asks_once_with_two_commands_and_tells_what_it_learned(
    orders: Orders, serve: Serve, commands: Commands
) -> None:
    container = serve(orders(), orders(name="more"))
    container.run()
    assert sorted(commands.asking) == ["buildinfo", "hello"]
    container.run()
    assert len(commands.asking) == 2
    [told] = container.named("source.connected")
    assert (told["product"], told["is_replicated"], told["start_after"]) == ("MongoDB", True, True)
    assert told["version"].count(".") == 2


def test_a_position_is_opened_behind_an_invalidate_where_the_server_can(
    database: Db, orders: Orders, serve: Serve, commands: Commands
) -> None:
    """G1: `startAfter` takes every kind of token."""
    container = serve(orders())
    container.run()
    database.orders.insert_one({"_id": 1})
    container.run()
    assert "startAtOperationTime" in commands.stages[0]
    assert "startAfter" in commands.stages[1]
    assert container.deliver.keys == [1]


@pytest.mark.usefixtures("documentdb")
def test_documentdb_is_asked_to_resume_after_for_it_has_nothing_else(
    database: Db, orders: Orders, serve: Serve, commands: Commands
) -> None:
    container = serve(orders())
    container.run()
    database.orders.insert_one({"_id": 1})
    container.run()
    assert "resumeAfter" in commands.stages[1]
    assert "startAfter" not in commands.stages[1]
    assert container.deliver.keys == [1]
    assert container.named("source.connected")[0]["product"] == "Amazon DocumentDB"


@pytest.fixture
def refusing(
    mongodb_client: MongoClient[dict[str, Any]],
) -> Iterator[Callable[[int], None]]:
    """Lets the next aggregate fail with a code."""

    def refuse(code: int) -> None:
        mongodb_client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": 1},
            data={"failCommands": ["aggregate"], "errorCode": code},
        )

    yield refuse
    mongodb_client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def source(mongodb_uri: str) -> Iterator[MongoSource]:
    made = MongoSource(settings_of(mongodb_uri, "table"), lambda: mongodb_uri)
    yield made
    made.close()


def _open(source: MongoSource, stream: StreamSettings, position: Position) -> None:
    source.open(stream, position, timeout_s=5, batch_size=None).close(timeout_s=1)


TOKEN = Position(resume_token={"_data": "00"})


@pytest.mark.usefixtures("documentdb")
def test_documentdb_calls_a_token_that_left_its_history_a_parse_error(
    source: MongoSource, orders: Orders, refusing: Callable[[int], None]
) -> None:
    """G7: so the policy decides, and the stream is not stuck for ever."""
    refusing(9)
    with pytest.raises(HistoryLost) as lost:
        _open(source, orders(), TOKEN)
    assert lost.value.code == 9


@pytest.mark.usefixtures("documentdb")
def test_documentdb_without_a_token_means_a_parse_error(
    source: MongoSource, orders: Orders, refusing: Callable[[int], None]
) -> None:
    start = source.now(timeout_s=5)
    refusing(9)
    with pytest.raises(SourceRefused, match="code 9"):
        _open(source, orders(), start)


def test_mongodb_means_a_parse_error_with_a_token_too(
    source: MongoSource, orders: Orders, refusing: Callable[[int], None]
) -> None:
    """G7: nothing is given up because of a mistaken pipeline."""
    refusing(9)
    with pytest.raises(SourceRefused, match="code 9"):
        _open(source, orders(), TOKEN)


@pytest.mark.usefixtures("documentdb")
def test_what_the_server_lacks_is_refused_before_the_stream_is_opened(
    source: MongoSource, orders: Orders, commands: Commands
) -> None:
    start = source.now(timeout_s=5)
    with pytest.raises(SourceRefused, match=r"asks for split_large_events.*Amazon DocumentDB"):
        _open(source, orders(split_large_events=True), start)
    assert "aggregate" not in commands.names


def test_streams_share_a_pool_of_one_connection_each_and_one_more(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """All wait for changes at once, and no run waits for a connection."""
    streams = [orders(name=f"s{n}", collection=f"s{n}") for n in range(4)]
    together = threading.Barrier(len(streams), timeout=5)

    def wait_for_the_others(_: Batch) -> None:
        together.wait()

    container = serve(*streams, deliver=Recorder(wait_for_the_others))
    container.run()
    for stream in streams:
        database[stream.name].insert_one({"_id": stream.name})
    container.source.close()
    CONNECTIONS.now = CONNECTIONS.most = 0
    assert sum(each["changes"] for each in container.run().values()) == len(streams)
    assert len(streams) <= CONNECTIONS.most <= len(streams) + 1


def test_a_standalone_is_found_before_anything_is_stored(
    orders: Orders, serve: Serve, stored: Callable[..., dict[str, Any]]
) -> None:
    with mongodb.serve(mongodb.Options(standalone=True)) as server:
        container = serve(orders(), uri=server.uri)
        with pytest.raises(Exception, match="start mongod with --replSet"):
            container.run()
        container.source.close()
    assert "position_use" not in stored()
