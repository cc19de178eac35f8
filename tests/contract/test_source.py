"""The Source port: the scripted fake and MongoDB keep the same promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson.timestamp import Timestamp

import source_bench
from service import key_of
from source_bench import ANY, BENCHES, EMBEDDED, ON_THE_WIRE, SCANNED, SCRIPTED
from tidemark.errors import HistoryLost, SourceRefused
from tidemark.model import Change, Position, Read, ReadEnd
from tidemark.ports import ReadLimits
from tidemark.recovery import TOKEN_REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server
    from source_bench import Bench
    from tidemark.ports import Reader
    from tidemark.settings import StreamSettings


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each server in turn; `@on(…)` chooses."""
    name = request.param
    if name in SCRIPTED:
        yield source_bench.scripted(SCRIPTED[name])
    elif name == EMBEDDED:
        uri, database = map(request.getfixturevalue, ("mongodb_uri", "database"))
        with source_bench.embedded(uri, database) as made:
            yield made
    else:
        with source_bench.on_the_wire(ON_THE_WIRE[name]) as made:
            yield made


def on(names: Any) -> pytest.MarkDecorator:
    """A test of these servers only."""
    return pytest.mark.parametrize("bench", list(names), indirect=True)


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
    if bench.has_oplog:
        assert keys_of(bench.rest(bench.source.earliest(timeout_s=5))) == ["first"]
    else:
        with pytest.raises(SourceRefused, match=r"local\.oplog\.rs"):
            bench.source.earliest(timeout_s=5)


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
        reads = bench.reads(reader, ReadLimits(max_changes=1))
    assert [key_of(change) for read in reads for change in read.changes] == [0, 1, 2]
    assert {len(read.changes) for read in reads} <= {0, 1}


def batch_sizes(server: Server) -> set[tuple[str, int | None]]:
    """What the commands of change streams asked for."""
    opened = {("aggregate", each["cursor"].get("batchSize")) for each in server.sent("aggregate")}
    return opened | {("getMore", each.get("batchSize")) for each in server.sent("getMore")}


@on(ON_THE_WIRE)
@pytest.mark.parametrize("resumes", [0, 1, 2])
def test_a_batch_size_of_one_is_what_the_server_is_asked_for(bench: Bench, resumes: int) -> None:
    """G11: the opening scans nothing; also where the driver itself has opened the stream again."""
    server, position = bench.server, bench.now()
    assert server is not None
    bench.insert(*range(3))
    with bench.open(position, batch_size=1) as reader:
        for _ in range(resumes):
            server.faults.fail("getMore", 11602, skip=1, resumable=True)
        assert keys_of(bench.all_of(reader, ReadLimits(max_changes=1))) == [0, 1, 2]
    assert server.count("aggregate") == 1 + resumes
    assert batch_sizes(server) == {("aggregate", 0), ("getMore", 1)}


@on(ON_THE_WIRE)
def test_without_a_batch_size_the_opening_scans_nothing_either(bench: Bench) -> None:
    """G11: the aggregate answers at once, and a getMore holds what the server likes."""
    assert bench.server is not None
    bench.insert(*range(3))
    bench.rest(bench.now())
    assert batch_sizes(bench.server) == {("aggregate", 0), ("getMore", None)}


# --------------------------------------------------------------------------------- invalidates


def test_an_invalidate_ends_the_stream_and_its_token_opens_behind_it(bench: Bench) -> None:
    """G1: where the server has `start_after`; elsewhere the token is refused, never skipped."""
    position = bench.now()
    bench.insert("before")
    bench.drop()
    with bench.open(position) as reader:
        reads = bench.reads(reader)
    last = [change for read in reads for change in read.changes][-1]
    assert last["operationType"] == "invalidate"
    bench.insert("behind")
    assert_opens_behind(bench, Position(resume_token=last["_id"]))


def assert_opens_behind(
    bench: Bench, invalidate: Position, stream: StreamSettings | None = None
) -> None:
    if bench.deployment.start_after:
        assert keys_of(bench.rest(invalidate, stream)) == ["behind"]
        return
    with pytest.raises((HistoryLost, SourceRefused)) as told:
        bench.rest(invalidate, stream)
    refused = told.value
    assert isinstance(refused, HistoryLost | SourceRefused)
    assert refused.code in TOKEN_REFUSED


def test_a_hidden_invalidate_is_recognised_and_can_be_found(bench: Bench) -> None:
    """G1: never taken for "idle"."""
    position = bench.now()
    bench.insert("before")
    stream = bench.hide_and_drop()
    with bench.open(position, stream) as reader:
        reads = bench.reads(reader)
    assert [read.end for read in reads if read.end is not ReadEnd.DRAINED] == [ReadEnd.INVALIDATED]
    changes = [change for read in reads for change in read.changes]
    assert keys_of(changes) == ["before"]
    last = Position(resume_token=changes[-1]["_id"])
    invalidate = bench.source.next_invalidate(stream, last, timeout_s=5)
    assert invalidate is not None
    bench.insert("behind")
    assert_opens_behind(bench, Position(resume_token=invalidate["_id"]), stream)


SILENT = ("4.0", "DocumentDB", "tells nothing")  # their closing answers have no token of their own
TELLING = [name for name in SCANNED if not any(word in name for word in SILENT)]
OLD_TOKEN = "mongod, its close tells nothing"


@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("is_hidden", [False, True])
@on(name for name in BENCHES if name != OLD_TOKEN)
def test_a_closing_answers_token_opens_behind_the_invalidate_or_is_none(
    bench: Bench, batch_size: int | None, is_hidden: bool
) -> None:
    """G1: at once or one answer late, with changes or alone: no other token is taken for it.

    Not where the closing answer repeats the last change's token: a run finds that out by its next
    answer (`test_drops.py`, "old token").
    """
    assert_closing_token_is_true(bench, batch_size, is_hidden=is_hidden)


def assert_closing_token_is_true(bench: Bench, batch_size: int | None, *, is_hidden: bool) -> None:
    position, stream = bench.now(), bench.stream
    bench.insert("before")
    if is_hidden:
        stream = bench.hide_and_drop()
    else:
        bench.drop()
    with bench.open(position, stream, batch_size=batch_size) as reader:
        closing = bench.reads(reader)[-1]
    assert closing.end is ReadEnd.INVALIDATED
    bench.insert("behind")
    if closing.resume_token is not None:
        after = Position(resume_token=closing.resume_token)
        assert keys_of(bench.rest(after, stream)) == ["behind"]


@on(TELLING)
def test_a_closing_answers_token_is_the_invalidates_own_where_the_server_tells_it(
    bench: Bench,
) -> None:
    """G1: without it each drop would cost a search."""
    position = bench.now()
    bench.insert("before")
    stream = bench.hide_and_drop()
    invalidate = bench.source.next_invalidate(stream, position, timeout_s=5)
    assert invalidate is not None
    with bench.open(position, stream) as reader:
        assert bench.reads(reader)[-1].resume_token == invalidate["_id"]


@on(["mongod, closes late", "fake, closes late"])
def test_a_late_close_is_a_read_of_its_own(bench: Bench) -> None:
    """G1: the invalidate is in an answer before it; nothing says "empty" in between."""
    position = bench.now()
    bench.insert("before")
    bench.drop()
    with bench.open(position) as reader:
        reads = bench.reads(reader)
    assert [read.end for read in reads] == [ReadEnd.DRAINED, ReadEnd.INVALIDATED]
    assert reads[0].changes[-1]["operationType"] == "invalidate"
    assert list(reads[1].changes) == []
    assert reads[1].resume_token == reads[0].changes[-1]["_id"]


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
    """G1: a run that took it for "idle" would read nothing ever again.

    Where every close comes late, the answer before it is empty, but has not passed the invalidate.
    """
    bench.insert("before")
    position = bench.now()
    stream = bench.hide_and_drop()
    with bench.open(position, stream) as reader:
        read = reader.read(ANY, timeout_s=5)
        if bench.closes_late and read.end is ReadEnd.EMPTY:
            read = reader.read(ANY, timeout_s=5)
    assert (list(read.changes), read.end) == ([], ReadEnd.INVALIDATED)


def test_a_stream_can_be_closed_twice(bench: Bench) -> None:
    with bench.open(bench.now()) as reader:
        reader.close(timeout_s=1)


# ------------------------------------------------------------------------------ what is known


def test_the_servers_time_is_told_and_never_goes_back(bench: Bench) -> None:
    """G12: as it opened, and at its last answer; not before a change that it has answered with."""
    bench.insert("before")
    position = bench.now()
    with bench.open(position) as reader:
        times = [reader.opened_at, reader.operation_time]
        for key in ("a", "b"):
            bench.insert(key)
            for read in bench.reads(reader):
                times.append(reader.operation_time)
                told = [change["clusterTime"] for change in read.changes]
                assert all(time <= times[-1] for time in told)
            bench.write_elsewhere()
        times.append(reader.opened_at)
    first, *rest, again = [time for time in times if time is not None]
    assert first == rest[0] == again
    assert len(times) == len(rest) + 2
    assert rest == sorted(rest)
    assert rest[-1] > first


def test_an_empty_answers_token_has_a_time_that_the_server_has_reached(bench: Bench) -> None:
    """G12: where nothing remains, not before the opening's, so that a drain ends."""
    bench.insert("a")
    position = bench.now()
    bench.insert("b")
    bench.write_elsewhere()
    with bench.open(position) as reader:
        for read in bench.reads(reader):  # which ends where that is so
            if read.end is ReadEnd.EMPTY:
                assert_has_a_true_time(bench, read, reader)


def assert_has_a_true_time(bench: Bench, empty: Read, reader: Reader) -> None:
    time = bench.source.time_of(Position(resume_token=empty.resume_token))
    assert (time is not None) is bench.tokens_have_times
    if time is not None:
        assert reader.operation_time is not None
        assert time <= reader.operation_time


def test_a_positions_own_time_is_its_time(bench: Bench) -> None:
    time = Timestamp(1_700_000_000, 7)
    assert bench.source.time_of(Position(operation_time=time)) == time


def test_a_token_of_no_known_form_has_no_time(bench: Bench) -> None:
    """G12: unknown, and no error."""
    assert bench.source.time_of(Position(resume_token={"_data": "no token"})) is None
    assert bench.source.time_of(Position(resume_token={"another": 1})) is None


def test_a_position_knows_its_deployment(bench: Bench) -> None:
    """G10: the set's name, None behind mongos; and whether an invalidate's token can be opened."""
    assert bench.source.deployment(timeout_s=5) == bench.deployment


def test_the_oplogs_oldest_time_is_told_or_why_it_is_not(bench: Bench) -> None:
    """G12: one of the two."""
    bench.insert("a")
    window = bench.source.oplog_window(timeout_s=5)
    assert (window.oldest is None, window.reason is None) == (not bench.has_oplog, bench.has_oplog)
    if window.oldest is not None:
        assert window.oldest == bench.source.earliest(timeout_s=5).operation_time


# -------------------------------------------------------------------------------- given up


@on(SCANNED)
def test_a_read_that_outlasts_its_time_is_given_up_and_closing_ends_its_scan(
    bench: Bench,
) -> None:
    """G11, G5: the server is there, and scans for nobody no more."""
    position = bench.now()
    bench.scan_for_long()
    with bench.open(position) as reader:
        read = reader.read(ANY, timeout_s=0.3)
        assert (list(read.changes), read.end, read.resume_token) == ([], ReadEnd.GIVEN_UP, None)
        assert reader.close(timeout_s=1) is True
    assert bench.scans_left() == 0
    bench.insert("a")


@on(ON_THE_WIRE)
def test_closing_tells_that_a_server_is_gone(bench: Bench) -> None:
    """G11: what does not answer another connection either has not given up: it is not there."""
    assert bench.server is not None
    position = bench.now()
    bench.scan_for_long()
    with bench.open(position) as reader:
        assert reader.read(ANY, timeout_s=0.3).end is ReadEnd.GIVEN_UP
        bench.server.faults.close_connection("killCursors", times=3)
        assert reader.close(timeout_s=1) is False


def test_closing_a_stream_that_nothing_was_wrong_with_tells_that_the_server_is_there(
    bench: Bench,
) -> None:
    with bench.open(bench.now()) as reader:
        bench.all_of(reader)
        assert reader.close(timeout_s=1) is True
