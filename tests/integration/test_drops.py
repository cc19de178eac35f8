"""G1, G7: nothing is skipped at a drop, whatever the pipeline leaves and however the server closes.

On the servers of `local/servers`: which answer brings the close, and with what token, is theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import servers
from shop import ORDERS, documents, orders_of, outcome, seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service import Service

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]
    Gaps: TypeAlias = Callable[[], list[dict[str, Any]]]

PIPELINES: dict[str, tuple[dict[str, Any], ...]] = {
    "project": ({"$project": {"fullDocument": 1, "documentKey": 1}},),
    "unset": ({"$unset": "operationType"},),
    "replace": (
        {
            "$replaceWith": {
                "_id": "$_id",
                "fullDocument": "$fullDocument",
                "documentKey": "$documentKey",
            }
        },
    ),
    "rewrite": ({"$set": {"operationType": "changed"}},),
    "inserts": ({"$match": {"operationType": "insert"}},),
}
NEVER_NAMED = ["project", "unset", "replace", "rewrite"]
CLOSES = {
    "mongod": servers.MONGOD,
    "late": replace(servers.MONGOD, closes_late=True),
    "no token": replace(servers.MONGOD, closing_token="absent"),
    "late, no token": replace(servers.MONGOD, closes_late=True, closing_token="absent"),
    "old token": replace(servers.MONGOD, closing_token="unchanged"),
    "late, old token": replace(servers.MONGOD, closes_late=True, closing_token="unchanged"),
    "mongos": servers.MONGOS,
}
HIDDEN_CLOSES = [
    *((pipeline, "mongod") for pipeline in NEVER_NAMED),
    *(("project", close) for close in CLOSES if close != "mongod"),
]
LATE = ["late", "late, no token", "late, old token"]
WITHOUT_START_AFTER = {
    "4.0": servers.MONGODB_4_0,
    "DocumentDB 5": servers.DOCUMENTDB_5,
    "DocumentDB 8": servers.DOCUMENTDB_8,
    "DocumentDB, unpatched": replace(servers.DOCUMENTDB_5, post_batch_tokens=False),
}


def two_drops(server: servers.Server) -> None:
    """Between two runs: a, a drop, b and c, a drop, d."""
    server.insert(ORDERS, {"_id": "a"})
    server.drop(ORDERS)
    server.insert(ORDERS, {"_id": "b"}, {"_id": "c"})
    server.drop(ORDERS)
    server.insert(ORDERS, {"_id": "d"})
    server.noop()  # behind mongos a token that has not moved proves nothing


# -------------------------------------------------------------- 1: a pipeline without operationType


@pytest.mark.parametrize(("pipeline", "close"), HIDDEN_CLOSES)
def test_two_drops_between_two_runs_lose_nothing(
    pipeline: str, close: str, server_of: ServerOf, serve: Serve, gaps: Gaps
) -> None:
    server = server_of(CLOSES[close])
    container = serve(orders_of(pipeline=PIPELINES[pipeline]), uri=server.uri)
    container.run()
    two_drops(server)
    summary = outcome(container)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert documents(container) == ["a", "b", "c", "d"]
    assert len(seen(container)) == 4 + 2 * 2  # of each drop the drop and the invalidate
    assert gaps() == container.named("gap.recorded") == []
    assert len(container.named("stream.invalidated")) == 2
    assert outcome(container)["changes"] == 0


@pytest.mark.parametrize(("pipeline", "close"), HIDDEN_CLOSES)
def test_a_single_drop_ends_the_run_as_any_other_does(
    pipeline: str, close: str, server_of: ServerOf, serve: Serve, gaps: Gaps
) -> None:
    """It searched for a second invalidate until the budget was gone."""
    server = server_of(CLOSES[close])
    container = serve(orders_of(pipeline=PIPELINES[pipeline]), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.drop(ORDERS)
    server.noop()  # behind mongos a token that has not moved proves nothing
    summary = outcome(container, remaining_ms=1500)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert documents(container) == ["a"]
    server.insert(ORDERS, {"_id": "b"})
    assert outcome(container)["error"] is None
    assert documents(container) == ["a", "b"]
    assert gaps() == []


# ------------------------------------------------------------------------------- 2: the late close


@pytest.mark.parametrize("close", LATE)
def test_a_close_that_comes_late_skips_nothing(
    close: str, server_of: ServerOf, serve: Serve, gaps: Gaps
) -> None:
    """Without any pipeline: the close arrives with an empty answer."""
    server = server_of(CLOSES[close])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    two_drops(server)
    assert outcome(container, remaining_ms=3000)["error"] is None
    assert seen(container) == ["a", "drop", "invalidate", "b", "c", "drop", "invalidate", "d"]
    assert gaps() == []


@pytest.mark.parametrize("close", ["mongod", "no token", "old token", "mongos"])
def test_an_isolated_run_skips_nothing_at_an_invalidate(
    close: str, server_of: ServerOf, serve: Serve, isolate: Callable[[], None]
) -> None:
    """One change an answer: every invalidate fills its batch, and every close is late."""
    server = server_of(CLOSES[close])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    two_drops(server)
    isolate()
    assert outcome(container, remaining_ms=3000)["error"] is None
    assert container.named("stream.wary") != []
    assert documents(container) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("close", ["mongod", "no token", "mongos"])
def test_an_invalidate_as_the_101st_of_a_first_answer_skips_nothing(
    close: str, server_of: ServerOf, serve: Serve
) -> None:
    server = server_of(CLOSES[close])
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, *({"_id": n} for n in range(99)))
    server.drop(ORDERS)
    server.insert(ORDERS, {"_id": "b"})
    server.drop(ORDERS)
    server.insert(ORDERS, {"_id": "c"})
    assert outcome(container, remaining_ms=3000)["error"] is None
    assert documents(container) == [*range(99), "b", "c"]


# -------------------------------------------------------------- 3: a server without startAfter


TIMELESS: dict[str, tuple[dict[str, Any], ...]] = {
    "no operationType": ({"$project": {"fullDocument": 1, "documentKey": 1}},),
    "no clusterTime": ({"$project": {"operationType": 1, "documentKey": 1}},),
    "clusterTime left out": ({"$project": {"clusterTime": 0}},),
    "inserts alone": (
        {"$match": {"operationType": "insert"}},
        {"$project": {"documentKey": 1}},
    ),
}


def timeless_cases() -> Iterator[Any]:
    """Every pipeline on two products, two of them on all."""
    for pipeline in TIMELESS:
        of_all = pipeline in ("no operationType", "no clusterTime")
        for product in WITHOUT_START_AFTER if of_all else ("4.0", "DocumentDB 5"):
            yield pytest.param(pipeline, product)


@pytest.mark.parametrize(("pipeline", "product"), [*timeless_cases()])
def test_a_server_without_start_after_skips_nothing_that_it_still_has(
    pipeline: str, product: str, server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    server = server_of(WITHOUT_START_AFTER[product])
    container = serve(orders_of(pipeline=TIMELESS[pipeline]), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.drop(ORDERS)
    server.insert(ORDERS, {"_id": "b"})
    for _ in range(2):
        assert outcome(container, remaining_ms=2000)["error"] is None
    assert documents(container) == ["a", "b"]
    assert stored().get("status") != "halted"


# ---------------------------------------------------------------------------- 15: changes and close


def whole_cases() -> Iterator[Any]:
    """Every close with the invalidate shown, some with it hidden."""
    for close in CLOSES:
        yield pytest.param(None, close)
        if close in ("mongod", "no token", "mongos"):
            yield pytest.param("inserts", close)


@pytest.mark.parametrize(("pipeline", "close"), [*whole_cases()])
def test_an_answer_that_holds_changes_and_the_close_is_delivered_whole(
    pipeline: str | None, close: str, server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    """Position and delivered set agree: another container goes on exactly there."""
    server = server_of(CLOSES[close])
    stream = orders_of(pipeline=() if pipeline is None else PIPELINES[pipeline])
    container = serve(stream, uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"}, {"_id": "b"})
    server.drop(ORDERS)
    assert outcome(container, remaining_ms=1500)["error"] is None
    assert documents(container) == ["a", "b"]
    server.insert(ORDERS, {"_id": "c"})
    other = serve(stream, uri=server.uri)
    assert outcome(other)["error"] is None
    assert seen(other) == ["c"]
    assert stored()["position_use"] == "token"
