"""G12: `caught_up` and the lag are true, on servers whose silence proves nothing."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import servers
from servers import tokens
from shop import ORDERS, orders_of, outcome, seen
from tidemark.invocation import StreamsFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from service import Service

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]

DOCUMENTDB = {
    "5": servers.DOCUMENTDB_5,
    "8": servers.DOCUMENTDB_8,
    "unpatched": replace(servers.DOCUMENTDB_5, post_batch_tokens=False),
}
COMMANDS = ("aggregate", "getMore", "killCursors")


def asked(server: servers.Server) -> dict[str, int]:
    """How many of the commands that a run of an idle stream costs were sent."""
    return {name: server.count(name) for name in COMMANDS}


def true_lag_s(server: servers.Server, position: str) -> int:
    """The server's operation time less the time of a stored token, in seconds."""
    found = tokens.MONGODB.search(position)
    assert found is not None
    return int(server.oplog.last_time.time) - int(found["seconds"], 16)


def test_forty_empty_answers_between_two_changes_end_no_drain(
    server_of: ServerOf, serve: Serve
) -> None:
    server = server_of(servers.MONGOD_EMPTIES)
    container = serve(orders_of(), uri=server.uri, max_await_ms=10)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.foreign(600)
    server.insert(ORDERS, {"_id": "b"})
    before = server.count("getMore")
    summary = outcome(container)
    assert (seen(container), summary["stop_reason"]) == (["a", "b"], "caught_up")
    assert server.count("getMore") - before >= 40
    assert summary["lag_ms"] == 0


def test_a_cold_shard_is_waited_for(server_of: ServerOf, serve: Serve) -> None:
    """Mongos passes on no change before every shard has passed it."""
    server = server_of(replace(servers.MONGOS, cold_shard_s=0.5))
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    summary = outcome(container)
    assert (seen(container), summary["stop_reason"], summary["lag_ms"]) == (["a"], "caught_up", 0)


@pytest.mark.parametrize("character", ["long", "moved", "unmoved"])
def test_a_lag_is_never_below_the_true_one(
    character: str, server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    """On the server's clock: a run that its budget ended is as far behind as its position."""
    scanning: Any = character
    server = server_of(
        replace(servers.MONGOD_EMPTIES, scanning=scanning), starts_at_s=1_700_000_000
    )
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.advance(60)
    server.insert(ORDERS, {"_id": "a"})
    server.foreign(2_500)
    server.advance(600)
    server.foreign(2_500)
    summary = outcome(container, remaining_ms=1_500)
    assert (summary["error"], summary["stop_reason"]) == (None, "budget")
    lag_s = true_lag_s(server, stored()["resume_token"])
    assert lag_s >= 599
    assert summary["lag_ms"] is not None
    assert lag_s <= summary["lag_ms"] / 1000 <= lag_s + 60


def test_an_idle_run_costs_three_commands(server_of: ServerOf, serve: Serve) -> None:
    """The first empty getMore already has the run's own time."""
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    container.run()
    before = asked(server)
    assert outcome(container)["stop_reason"] == "caught_up"
    assert asked(server) == {name: count + 1 for name, count in before.items()}


def test_an_idle_run_knows_that_it_has_no_lag(server_of: ServerOf, serve: Serve) -> None:
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.foreign(10)
    container.run()
    assert outcome(container)["lag_ms"] == 0


@pytest.mark.parametrize("version", DOCUMENTDB)
def test_a_lag_that_cannot_be_known_is_reported_as_unknown(
    version: str, server_of: ServerOf, serve: Serve
) -> None:
    server = server_of(DOCUMENTDB[version])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    for _ in range(2):
        summary = outcome(container)
        assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
        assert summary["lag_ms"] is None
        assert summary["lag_reason"]
    assert seen(container) == ["a"]


@pytest.mark.parametrize("status", ["failing", "halted"])
def test_a_stream_that_cannot_read_has_a_lag_too(
    status: str, server_of: ServerOf, serve: Serve
) -> None:
    """From the last operation time that was seen, and the time since."""
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    server.insert(ORDERS, {"_id": "a"})
    container.run()
    if status == "halted":
        server.noop(10)
        server.prune()
        with contextlib.suppress(StreamsFailed):
            container.run()
    else:
        server.faults.fail("aggregate", 13, times=10)
    summary = outcome(container)
    assert summary["stop_reason"] == ("halted" if status == "halted" else "failed")
    assert summary["lag_ms"] is not None
    assert 0 <= summary["lag_ms"] < 60_000
