"""G11: a run gets as far as its server allows, where every entry of the oplog costs a scan.

A tenth of the scale that was met: 6,000 entries at 0.7 ms, changes at 0, 2,000 and 4,000.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import servers
from service import metrics_of
from shop import ORDERS, SLOW_S, orders_of, outcome, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from service import Service

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]

CHARACTERS = {
    "long": replace(servers.MONGOD_LONG_SCANS, fills_batches=False),
    "long, fills its batches": servers.MONGOD_LONG_SCANS,
    "moved": servers.MONGOD_EMPTIES,
    "unmoved": replace(servers.MONGOS, scan_cost_s=SLOW_S),
}
SILENT = ["long", "long, fills its batches", "unmoved"]  # they tell nothing of a scan's progress
LONG_RUN_MS = 3_000  # 2.1 s of them are for reading: 3,000 entries
SHORT_RUN_MS = 1_500  # 1.05 s: 1,500 entries


def three_changes_far_apart(server: servers.Server) -> None:
    """6,000 entries, of which three are of the stream."""
    for key in ("a", "b", "c"):
        server.insert(ORDERS, {"_id": key})
        server.foreign(1_999)


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_stream_that_fell_behind_comes_back(
    character: str, server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    """Every change that a run's time reaches is delivered and stored, and no scan stays behind."""
    server = server_of(CHARACTERS[character])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    three_changes_far_apart(server)
    before = stored()["resume_token"]
    first = outcome(container, remaining_ms=LONG_RUN_MS)
    assert (first["error"], seen(container)[:2]) == (None, ["a", "b"])
    assert stored()["resume_token"] != before
    assert server.scans_left_behind == 0
    second = outcome(container, remaining_ms=LONG_RUN_MS)
    assert (second["error"], seen(container)) == (None, ["a", "b", "c"])
    assert server.scans_left_behind == 0


@pytest.mark.parametrize("character", SILENT)
def test_a_run_that_reached_nothing_says_so(
    character: str,
    server_of: ServerOf,
    serve: Serve,
    stored: Stored,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How long it scanned, from which time towards which, and what to raise; with a metric."""
    server = server_of(CHARACTERS[character])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.advance(60)
    server.foreign(6_000)
    server.insert(ORDERS, {"_id": "a"})
    before = stored()["resume_token"]
    capsys.readouterr()
    summary = outcome(container, remaining_ms=SHORT_RUN_MS)
    assert (summary["error"], summary["stop_reason"]) == (None, "budget")
    assert 700 <= summary["scan_ms"] <= SHORT_RUN_MS
    [told] = container.named("stream.scanning")
    assert told["scan_ms"] == summary["scan_ms"]
    assert told["from_time"] < told["towards_time"]
    assert "TimeoutS" in told["remedy"]
    assert stored()["resume_token"] == before
    [metrics] = metrics_of(capsys.readouterr().out)
    assert (metrics["NoProgress"], metrics["RunsSucceeded"]) == ([1.0], [1.0])


@pytest.mark.parametrize("character", SILENT)
def test_a_read_given_up_is_followed_by_kill_cursors(
    character: str, server_of: ServerOf, serve: Serve
) -> None:
    """Or scans pile up on the server, one a run: a cut getMore scans on."""
    server = server_of(CHARACTERS[character])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    killed = server.count("killCursors")
    server.foreign(6_000)
    assert outcome(container, remaining_ms=SHORT_RUN_MS)["error"] is None
    assert server.count("getMore") > 1
    assert server.count("killCursors") > killed
    assert (server.scans_left_behind, server.scans_running, server.cursors) == (0, 0, {})


def test_every_run_moves_the_position_where_the_server_shows_progress(
    server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    server = server_of(CHARACTERS["moved"])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.foreign(3_500)
    server.insert(ORDERS, {"_id": "a"})
    positions = [stored()["resume_token"]]
    for _ in range(2):
        summary = outcome(container, remaining_ms=SHORT_RUN_MS)
        assert (summary["error"], summary["stop_reason"]) == (None, "budget")
        positions.append(stored()["resume_token"])
        assert container.named("stream.scanning") == []
    assert len(set(positions)) == 3
    assert outcome(container)["stop_reason"] == "caught_up"
    assert seen(container) == ["a"]
