"""What the Source port's contract suite runs on: each server with a way to write to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import servers
from fakes import HIDDEN_INVALIDATE, IDLE, INVALIDATE, ManualClock, ScriptedSource, Traits, insert
from service import settings_of
from shop import ORDERS, SLOW_S
from tidemark.model import Change, Deployment, Position, Read, ReadEnd
from tidemark.mongodb.source import MongoSource
from tidemark.ports import ReadLimits
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.database import Database

    from tidemark.ports import Reader, Source

ANY = ReadLimits(max_changes=1000)
INSERTS = ({"$match": {"operationType": "insert"}},)
SCRIPTED = {
    "fake": Traits(),
    "fake, closes late": Traits(closes="late"),
    "fake, as MongoDB 4.0": Traits(start_after=False, closing_tells=False, closes="late_when_full"),
    "fake, as DocumentDB": Traits(start_after=False, closing_tells=False, token_times=False),
}
ON_THE_WIRE = {
    "mongod": servers.MONGOD,
    "mongod, closes late": replace(servers.MONGOD, closes_late=True),
    "mongod, its close tells nothing": replace(servers.MONGOD, closing_token="unchanged"),
    "mongod, answers empty while it scans": servers.MONGOD_EMPTIES,
    "mongos": servers.MONGOS,
    "DocumentDB 5": servers.DOCUMENTDB_5,
}
EMBEDDED = "embedded"
BENCHES = [*SCRIPTED, EMBEDDED, *ON_THE_WIRE]
SCANNED = [name for name in BENCHES if name != EMBEDDED]  # where a scan can be made to cost time


@dataclass(frozen=True)
class Bench:
    """A source, a stream on it, what is known of its server, and ways to write.

    `hide_and_drop` drops behind a pipeline that hides the invalidate, and gives the stream that has
    it. `scan_for_long` lets the next read take longer than any test waits. `scans_left` counts what
    goes on in the server for nobody. `server` is a server of ours, None elsewhere.
    """

    source: Source
    stream: StreamSettings
    deployment: Deployment
    insert: Callable[..., object]
    write_elsewhere: Callable[[], object]
    drop: Callable[[], object]
    hide_and_drop: Callable[[], StreamSettings]
    has_oplog: bool = True
    tokens_have_times: bool = True
    closes_late: bool = False
    scan_for_long: Callable[[], None] = lambda: None
    scans_left: Callable[[], int] = lambda: 0
    server: servers.Server | None = None

    def now(self) -> Position:
        """After everything that was written so far."""
        return self.source.now(timeout_s=5)

    @contextmanager
    def open(
        self, position: Position, stream: StreamSettings | None = None, **given: Any
    ) -> Iterator[Reader]:
        """A reader after `position`, closed with the block."""
        options = {"timeout_s": 5, "batch_size": None} | given
        reader = self.source.open(stream or self.stream, position, **options)
        try:
            yield reader
        finally:
            reader.close(timeout_s=1)

    def rest(self, position: Position, stream: StreamSettings | None = None) -> list[Change]:
        """Every change after `position`."""
        with self.open(position, stream) as reader:
            return self.all_of(reader)

    def all_of(self, reader: Reader, limits: ReadLimits = ANY) -> list[Change]:
        """Every change that is left."""
        return [change for read in self.reads(reader, limits) for change in read.changes]

    def reads(self, reader: Reader, limits: ReadLimits = ANY) -> list[Read]:
        """Every read up to the one that shows that nothing is left."""
        reads: list[Read] = []
        while not reads or not self._is_last(reads[-1], reader):
            reads.append(reader.read(limits, timeout_s=5))
        return reads

    def _is_last(self, read: Read, reader: Reader) -> bool:
        """Whether the server has closed, or an empty answer has passed the time of the opening."""
        if read.end is not ReadEnd.EMPTY:
            return read.end in (ReadEnd.INVALIDATED, ReadEnd.GIVEN_UP)
        time = self.source.time_of(Position(resume_token=read.resume_token))
        return time is None or reader.opened_at is None or time >= reader.opened_at


def scripted(traits: Traits) -> Bench:
    """The fake, with these traits."""
    source = ScriptedSource(ManualClock(), traits=traits)
    stream = StreamSettings(name="orders")

    def hide_and_drop() -> StreamSettings:
        source.write(HIDDEN_INVALIDATE)
        return stream

    def scan_for_long() -> None:
        source.traits = replace(source.traits, entry_s=1.0, scans_on=True)
        source.write(*[IDLE] * 1000)

    return Bench(
        source,
        stream,
        Deployment(traits.set_name, traits.start_after),
        insert=lambda *keys: source.write(*map(insert, keys)),
        write_elsewhere=lambda: source.write(IDLE),
        drop=lambda: source.write(INVALIDATE),
        hide_and_drop=hide_and_drop,
        tokens_have_times=traits.token_times,
        scan_for_long=scan_for_long,
        scans_left=lambda: source.scans_left,
    )


@contextmanager
def embedded(uri: str, database: Database[dict[str, Any]]) -> Iterator[Bench]:
    """The embedded MongoDB, or the one that MONGODB_URI names."""
    orders, stream = database.orders, _orders(database.name)
    hello = database.client.admin.command("hello")

    def hide_and_drop() -> StreamSettings:
        orders.drop()
        return replace(stream, pipeline=INSERTS)

    with _source(uri, stream) as source:
        yield Bench(
            source,
            stream,
            Deployment(hello.get("setName"), is_sharded="setName" not in hello),
            insert=lambda *keys: orders.insert_many([{"_id": key} for key in keys]),
            write_elsewhere=lambda: database.others.insert_one({}),
            drop=orders.drop,
            hide_and_drop=hide_and_drop,
            has_oplog="setName" in hello,
            tokens_have_times=False,
        )


@contextmanager
def on_the_wire(character: servers.Character) -> Iterator[Bench]:
    """A server of ours, with this character."""
    with servers.serve(character) as server, _source(server.uri, _orders("shop")) as source:
        yield _served(server, source, _orders("shop"))


def _served(server: servers.Server, source: MongoSource, stream: StreamSettings) -> Bench:
    character = server.character
    is_sharded, is_mongod = character.product == "mongos", character.product == "mongod"

    def hide_and_drop() -> StreamSettings:
        server.drop(ORDERS)
        return replace(stream, pipeline=INSERTS)

    def scan_for_long() -> None:
        server.character = replace(character, scan_cost_s=SLOW_S, scanning="long")
        server.foreign(60_000)

    return Bench(
        source,
        stream,
        Deployment(
            None if is_sharded else character.set_name,
            start_after=character.start_after_refused is None,
            is_sharded=is_sharded,
        ),
        insert=lambda *keys: server.insert(ORDERS, *({"_id": key} for key in keys)),
        write_elsewhere=lambda: server.foreign(150),  # at `SLOW_S`: two awaits, each of 50 ms
        drop=lambda: server.drop(ORDERS),
        hide_and_drop=hide_and_drop,
        has_oplog=is_mongod,
        tokens_have_times=character.token_form == "mongodb",
        closes_late=character.closes_late,
        scan_for_long=scan_for_long,
        scans_left=lambda: server.scans_running + server.scans_left_behind,
        server=server,
    )


def _orders(database: str) -> StreamSettings:
    return StreamSettings(name="orders", database=database, collection="orders")


@contextmanager
def _source(uri: str, stream: StreamSettings) -> Iterator[MongoSource]:
    settings = settings_of(uri, "no-table", stream)
    source = MongoSource(settings, lambda: uri)
    try:
        yield source
    finally:
        source.close()
