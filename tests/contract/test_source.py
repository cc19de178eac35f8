"""The Source port: the scripted fake and MongoDB keep the same promises."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from bson.timestamp import Timestamp

from fakes.clock import ManualClock
from fakes.script import HIDDEN_INVALIDATE, IDLE, INVALIDATE, insert
from fakes.source import ScriptedSource
from service import key_of, settings_of
from tidemark.model import Change, Position, Read, ReadEnd
from tidemark.mongodb.source import MongoSource
from tidemark.ports import ReadLimits
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidemark.ports import Reader, Source

ANY = ReadLimits(max_changes=1000)
INSERTS = ({"$match": {"operationType": "insert"}},)


@dataclass(frozen=True)
class Bench:
    """A source, a stream of inserts on it, and a way to write."""

    source: Source
    insert: Callable[..., None]
    write_elsewhere: Callable[[], None]
    drop: Callable[[], None]
    hide_and_drop: Callable[[], StreamSettings]
    stream: StreamSettings

    def now(self) -> Position:
        return self.source.now(timeout_s=5)

    @contextmanager
    def open(
        self, position: Position, stream: StreamSettings | None = None, **given: Any
    ) -> Iterator[Reader]:
        options = {"timeout_s": 5, "batch_size": None} | given
        reader = self.source.open(stream or self.stream, position, **options)
        try:
            yield reader
        finally:
            reader.close(timeout_s=1)

    def rest(self, position: Position, stream: StreamSettings | None = None) -> list[Change]:
        """Every change behind `position`."""
        with self.open(position, stream) as reader:
            return self.all_of(reader)

    @staticmethod
    def all_of(reader: Reader, limits: ReadLimits = ANY) -> list[Change]:
        changes: list[Change] = []
        while True:
            read = reader.read(limits, timeout_s=5)
            changes += read.changes
            if read.end in (ReadEnd.EMPTY, ReadEnd.INVALIDATED):
                return changes


def _scripted() -> Bench:
    source = ScriptedSource(ManualClock())

    def hide_and_drop() -> StreamSettings:
        source.write(HIDDEN_INVALIDATE)
        return StreamSettings(name="orders")

    return Bench(
        source,
        insert=lambda *keys: source.write(*map(insert, keys)),
        write_elsewhere=lambda: source.write(IDLE),
        drop=lambda: source.write(INVALIDATE),
        hide_and_drop=hide_and_drop,
        stream=StreamSettings(name="orders"),
    )


@contextmanager
def _mongodb(request: pytest.FixtureRequest) -> Iterator[Bench]:
    uri, database = map(request.getfixturevalue, ("mongodb_uri", "database"))
    stream = StreamSettings(name="orders", database=database.name, collection="orders")
    hiding = StreamSettings(
        name="orders", database=database.name, collection="orders", pipeline=INSERTS
    )
    settings = settings_of(uri, "no-table", stream)
    source = MongoSource(settings, lambda: uri)

    def hide_and_drop() -> StreamSettings:
        database.orders.drop()
        return hiding

    yield Bench(
        source,
        insert=lambda *keys: database.orders.insert_many([{"_id": key} for key in keys]) and None,
        write_elsewhere=lambda: database.others.insert_one({}) and None,
        drop=database.orders.drop,
        hide_and_drop=hide_and_drop,
        stream=stream,
    )
    source.close()


@pytest.fixture(params=["scripted", "mongodb"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "scripted":
        yield _scripted()
    else:
        with _mongodb(request) as made:
            yield made


def keys_of(changes: list[Change]) -> list[Any]:
    return [key_of(change) for change in changes if change["operationType"] != "drop"]


def test_now_is_behind_everything_and_before_everything_to_come(bench: Bench) -> None:
    """G1: the boundary loses nothing on either side."""
    bench.insert("before")
    position = bench.now()
    bench.insert("after", "more")
    assert keys_of(bench.rest(position)) == ["after", "more"]


def test_earliest_is_before_everything_that_is_kept(bench: Bench) -> None:
    bench.insert("first")
    assert keys_of(bench.rest(bench.source.earliest(timeout_s=5))) == ["first"]


def test_a_stream_opens_behind_each_changes_own_token(bench: Bench) -> None:
    """G1, G3: after each change exactly those behind it come."""
    position = bench.now()
    bench.insert(*range(6))
    for place, change in enumerate(bench.rest(position)):
        behind = Position(resume_token=change["_id"])
        assert keys_of(bench.rest(behind)) == list(range(place + 1, 6))


def test_an_empty_answer_brings_a_token_that_continues(bench: Bench) -> None:
    """G6: without loss or repetition."""
    position = bench.now()
    bench.insert(1)
    bench.write_elsewhere()
    with bench.open(position) as reader:
        read = reader.read(ANY, timeout_s=5)
        while read.end is not ReadEnd.EMPTY:
            assert read.resume_token is None
            read = reader.read(ANY, timeout_s=5)
    assert read.resume_token is not None
    bench.insert(2)
    assert keys_of(bench.rest(Position(resume_token=read.resume_token))) == [2]


def test_what_others_write_moves_the_token_of_an_empty_answer(bench: Bench) -> None:
    """G6: a quiet stream advances."""
    tokens = []
    with bench.open(bench.now()) as reader:
        for _ in range(2):
            tokens.append(_until_empty(reader).resume_token)
            bench.write_elsewhere()
        tokens.append(_until_empty(reader).resume_token)
    assert tokens[-1] != tokens[0]


def _until_empty(reader: Reader) -> Read:
    read = reader.read(ANY, timeout_s=5)
    while read.end is not ReadEnd.EMPTY:
        read = reader.read(ANY, timeout_s=5)
    return read


def test_a_read_is_full_at_its_number_of_changes(bench: Bench) -> None:
    position = bench.now()
    bench.insert(*range(5))
    with bench.open(position) as reader:
        reads = [reader.read(ReadLimits(max_changes=2), timeout_s=5) for _ in range(2)]
        rest = bench.all_of(reader)
    assert [[key_of(change) for change in read.changes] for read in reads] == [[0, 1], [2, 3]]
    assert reads[0].end is ReadEnd.FULL
    assert keys_of(rest) == [4]


def test_a_batch_size_of_one_brings_changes_one_by_one(bench: Bench) -> None:
    position = bench.now()
    bench.insert(*range(3))
    with bench.open(position, batch_size=1) as reader:
        assert keys_of(bench.all_of(reader, ReadLimits(max_changes=1))) == [0, 1, 2]


def test_an_invalidate_ends_the_stream_and_its_token_opens_behind_it(bench: Bench) -> None:
    """G1: `start_after` takes it."""
    position = bench.now()
    bench.insert("before")
    bench.drop()
    with bench.open(position) as reader:
        read = reader.read(ANY, timeout_s=5)
        while read.end is not ReadEnd.INVALIDATED:
            read = reader.read(ANY, timeout_s=5)
    last = read.changes[-1]
    assert last["operationType"] == "invalidate"
    bench.insert("behind")
    assert keys_of(bench.rest(Position(resume_token=last["_id"]))) == ["behind"]


def test_a_hidden_invalidate_is_recognised_and_can_be_found(bench: Bench) -> None:
    """G1: never taken for "idle"."""
    position = bench.now()
    bench.insert("before")
    stream = bench.hide_and_drop()
    with bench.open(position, stream) as reader:
        changes: list[Change] = []
        while (read := reader.read(ANY, timeout_s=5)).end is not ReadEnd.INVALIDATED:
            changes += read.changes
            assert read.end is not ReadEnd.EMPTY
        changes += read.changes
    assert keys_of(changes) == ["before"]
    last = Position(resume_token=changes[-1]["_id"])
    invalidate = bench.source.next_invalidate(stream, last, timeout_s=5)
    assert invalidate is not None
    bench.insert("behind")
    assert keys_of(bench.rest(Position(resume_token=invalidate["_id"]), stream)) == ["behind"]


def test_right_behind_an_invalidates_time_nothing_is_missing(bench: Bench) -> None:
    """G1: where its token is refused, the stream can be opened there."""
    position = bench.now()
    bench.insert("before")
    stream = bench.hide_and_drop()
    bench.insert("behind")
    invalidate = bench.source.next_invalidate(stream, position, timeout_s=5)
    assert invalidate is not None
    time = invalidate["clusterTime"]
    behind = Position(operation_time=Timestamp(time.time, time.inc + 1))
    assert keys_of(bench.rest(behind, stream)) == ["behind"]


def test_a_hidden_invalidate_alone_is_no_empty_answer(bench: Bench) -> None:
    """G1: a run that took it for "idle" would read nothing ever again."""
    bench.insert("before")
    position = bench.now()
    stream = bench.hide_and_drop()
    with bench.open(position, stream) as reader:
        read = reader.read(ANY, timeout_s=5)
    assert (list(read.changes), read.end) == ([], ReadEnd.INVALIDATED)


def test_a_stream_can_be_closed_twice(bench: Bench) -> None:
    with bench.open(bench.now()) as reader:
        reader.close(timeout_s=1)
