"""How far back the oplog reaches: asked seldom, and never in the way of reading (G12)."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from bson.timestamp import Timestamp
from pymongo import MongoClient

import servers
from tidemark.errors import SourceUnavailable
from tidemark.model import OplogWindow
from tidemark.mongodb import oplog
from tidemark.mongodb.oplog import EVERY_S, NOT_READABLE, Oplog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidemark.mongodb.client import Client

    Look = Callable[[Client], Timestamp | None]

PATIENCE_S = 10  # of a test that would hang otherwise; never waited for
OLDEST = Timestamp(1_700_000_000, 1)


class Asked:
    """What `MongoSource` gives an `Oplog` to ask with: answers or raises, and counts."""

    def __init__(self, answer: Timestamp | Exception | None = OLDEST) -> None:
        self.answer = answer
        self.count = 0

    def __call__(self, _: Look) -> Timestamp | None:
        self.count += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def time_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the seconds that the module's clock shows."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(oplog, "time", SimpleNamespace(monotonic=lambda: seconds))

    return set_to


def test_it_is_asked_once_in_five_minutes(time_is: Callable[[float], None]) -> None:
    """Whoever asks: all streams of a container together."""
    known, ask = Oplog(), Asked()
    for seconds in (0, 1, EVERY_S - 1):
        time_is(seconds)
        assert known.window(ask) == OplogWindow(OLDEST)
    assert ask.count == 1
    time_is(EVERY_S)
    known.window(ask)
    assert ask.count == 2


def test_a_machine_that_has_just_started_is_asked_as_well(
    time_is: Callable[[float], None],
) -> None:
    """Its monotonic clock may begin at 0."""
    time_is(0.0)
    assert Oplog().window(Asked()) == OplogWindow(OLDEST)


def test_a_failure_is_a_reason_and_raises_nothing(time_is: Callable[[float], None]) -> None:
    """It is not tried again at once either: the run's end is waiting."""
    known, ask = Oplog(), Asked(SourceUnavailable("no primary"))
    time_is(0)
    for _ in range(3):
        window = known.window(ask)
        assert (window.oldest, "SourceUnavailable" in (window.reason or "")) == (None, True)
    assert ask.count == 1
    ask.answer = OLDEST
    time_is(EVERY_S)
    assert known.window(ask) == OplogWindow(OLDEST)


def test_what_was_known_is_not_told_for_ever(time_is: Callable[[float], None]) -> None:
    """G12: an old beginning would be a headroom that is gone."""
    known, ask = Oplog(), Asked()
    time_is(0)
    known.window(ask)
    ask.answer = SourceUnavailable("no primary")
    time_is(EVERY_S)
    assert known.window(ask).oldest is None


def test_two_threads_do_not_both_ask_and_neither_waits() -> None:
    """G5: the one that comes second has what was known before."""
    known, asked, go_on = Oplog(), threading.Event(), threading.Event()
    second = Asked()

    def slow(_: Look) -> Timestamp:
        asked.set()
        assert go_on.wait(PATIENCE_S)
        return OLDEST

    first = threading.Thread(target=known.window, args=(slow,))
    first.start()
    assert asked.wait(PATIENCE_S)
    window = known.window(second)
    go_on.set()
    first.join(PATIENCE_S)
    assert (window.oldest, window.reason, second.count) == (None, "it was not asked for yet", 0)
    assert known.window(second) == OplogWindow(OLDEST)
    assert second.count == 0


# ------------------------------------------------------------------------------ whom it is asked


def window_of(server: servers.Server) -> OplogWindow:
    """What an `Oplog` finds out from a server."""
    with MongoClient[dict[str, Any]](server.uri) as client:
        return Oplog().window(lambda look: look(client))


def test_the_oplog_itself_is_asked_first() -> None:
    with servers.serve(servers.MONGOD) as server:
        assert window_of(server) == OplogWindow(server.oplog.first_time)
        assert server.count("serverStatus") == 0


@pytest.mark.parametrize("code", [13, 20, 8000])
def test_who_may_not_read_it_asks_for_the_servers_status(code: int) -> None:
    with servers.serve(replace(servers.MONGOD, reads_refused=code)) as server:
        assert window_of(server) == OplogWindow(server.oplog.first_time)
        [command] = server.sent("serverStatus")
    assert command["oplog"] == 1


@pytest.mark.parametrize(
    "character",
    [
        replace(servers.MONGOD, reads_refused=13, status_refused=13),
        servers.MONGOS,
        servers.DOCUMENTDB_5,
    ],
    ids=["both refused", "mongos", "DocumentDB"],
)
def test_who_may_do_neither_is_told_what_to_grant(character: servers.Character) -> None:
    """G12: a reason in the place of a figure."""
    with servers.serve(character) as server:
        assert window_of(server) == OplogWindow(None, NOT_READABLE)
