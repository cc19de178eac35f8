"""What a server refuses, retypes or forgets, and what an operator is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import servers
from shop import ORDERS, documents, orders_of, outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from service import Service

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]
    Gaps: TypeAlias = Callable[[], list[dict[str, Any]]]

REFUSALS = {
    "13, the documented role": replace(servers.MONGOD, reads_refused=13),
    "20, through mongos": servers.MONGOS,
    "8000, on Atlas": replace(servers.MONGOD, reads_refused=8000),
    "13, on DocumentDB": servers.DOCUMENTDB_5,
}


# --------------------------------------------------------------------------------- 9: `earliest`


@pytest.mark.parametrize("refusal", REFUSALS)
def test_earliest_that_is_refused_says_what_it_needs(
    refusal: str, server_of: ServerOf, serve: Serve
) -> None:
    """One sentence for all: what it needs, where it does not exist, and a time instead."""
    server = server_of(REFUSALS[refusal])
    summary = outcome(serve(orders_of(start_at="earliest"), uri=server.uri))
    assert summary["stop_reason"] == "failed"
    for words in ("earliest", "local.oplog.rs", "sharded", "DocumentDB", "time"):
        assert words in summary["error"]
    assert str(REFUSALS[refusal].reads_refused) in summary["error"]
    assert "credentials" not in summary["error"]
    assert (
        server.count("find") <= 2
    )  # for the first position, and for the headroom  # with the client that there was


def test_earliest_on_a_fast_oplog_takes_the_next_first_entry(
    server_of: ServerOf, serve: Serve, stored: Stored, gaps: Gaps
) -> None:
    """The entry that was first is gone by the time the stream is read."""
    server = server_of()
    server.insert(ORDERS, {"_id": "a"}, {"_id": "b"})
    server.faults.before("aggregate", server.prune)
    container = serve(orders_of(start_at="earliest"), uri=server.uri)
    summary = outcome(container)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert documents(container) == ["b"]
    assert stored().get("status") != "halted"
    assert gaps() == []


def test_earliest_is_the_oplogs_first_entry(server_of: ServerOf, serve: Serve) -> None:
    server = server_of()
    server.insert(ORDERS, {"_id": "a"}, {"_id": "b"})
    container = serve(orders_of(start_at="earliest"), uri=server.uri)
    assert outcome(container)["error"] is None
    assert documents(container) == ["a", "b"]


# ----------------------------------------------------------------------- 10: a time that is none


@pytest.mark.parametrize(
    "retyped",
    [{"$toDate": "$clusterTime"}, {"$literal": "text"}, {"$literal": 7}],
    ids=["a date", "a text", "a number"],
)
def test_a_cluster_time_that_is_no_timestamp_is_no_time(
    retyped: dict[str, Any], server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    server = server_of()
    container = serve(orders_of(pipeline=({"$set": {"clusterTime": retyped}},)), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    summary = outcome(container)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert stored()["lease_expires_at_ms"] == "0"
    server.insert(ORDERS, {"_id": "b"})
    assert outcome(container)["error"] is None
    assert documents(container) == ["a", "b"]


# ----------------------------------------------------------------------- 11: a typo that is mended

TYPO = ({"$match": {"operationType": {"$inn": ["insert"]}}},)
MENDED = ({"$match": {"operationType": {"$in": ["insert"]}}},)


def test_a_typo_in_a_pipeline_that_never_opened_is_mended(
    server_of: ServerOf, serve: Serve, gaps: Gaps
) -> None:
    """A definition is the position's once the stream has opened with it; nothing is missed."""
    server = server_of()
    assert outcome(serve(orders_of(pipeline=TYPO), uri=server.uri))["error"] is not None
    server.insert(ORDERS, {"_id": "a"})
    mended = serve(orders_of(pipeline=MENDED), uri=server.uri)
    summary = outcome(mended)
    assert (summary["error"], documents(mended)) == (None, ["a"])
    assert gaps() == []


def test_a_pipeline_that_has_opened_is_the_positions(server_of: ServerOf, serve: Serve) -> None:
    """G10: as ever."""
    server = server_of()
    assert outcome(serve(orders_of(), uri=server.uri))["error"] is None
    summary = outcome(serve(orders_of(pipeline=MENDED), uri=server.uri))
    assert "another definition" in summary["error"]


# -------------------------------------------------------------------------- 12: another deployment

OTHER = replace(servers.MONGOD, set_name="restored")


def moved(server_of: ServerOf, serve: Serve, *, to: servers.Character) -> servers.Server:
    """Another deployment, after the stream has had a position in the first."""
    first = server_of(starts_at_s=1_700_000_000)
    assert outcome(serve(orders_of(), uri=first.uri))["error"] is None
    other = server_of(to, starts_at_s=1_700_000_000)
    other.insert(ORDERS, {"_id": "a"})
    return other


def test_another_deployments_position_is_refused(
    server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    other = moved(server_of, serve, to=OTHER)
    before = stored()
    container = serve(orders_of(), uri=other.uri)
    summary = outcome(container)
    assert summary["stop_reason"] == "failed"
    for words in ("rs0", "restored", "on_definition_change"):
        assert words in summary["error"]
    assert (before.get("deployment"), stored().get("deployment")) == ("rs0", "rs0")
    assert stored()["resume_token"] == before["resume_token"]
    assert documents(container) == []


def test_another_deployment_may_be_gone_on_with(
    server_of: ServerOf, serve: Serve, stored: Stored, gaps: Gaps
) -> None:
    other = moved(server_of, serve, to=OTHER)
    container = serve(orders_of(on_definition_change="resume"), uri=other.uri)
    assert outcome(container)["error"] is None
    assert (documents(container), stored().get("deployment")) == (["a"], "restored")
    assert gaps() == []
    assert outcome(serve(orders_of(), uri=other.uri))["error"] is None


def test_another_deployment_may_be_started_afresh_with_a_gap_on_record(
    server_of: ServerOf, serve: Serve, stored: Stored, gaps: Gaps
) -> None:
    other = moved(server_of, serve, to=OTHER)
    container = serve(orders_of(on_definition_change="restart"), uri=other.uri)
    assert outcome(container)["error"] is None
    assert [gap["reason"] for gap in gaps()] == ["deployment_changed"]
    assert stored().get("deployment") == "restored"
    other.insert(ORDERS, {"_id": "b"})
    assert outcome(container)["gaps"] == 0
    assert documents(container)[-1] == "b"


@pytest.mark.parametrize("to", [servers.MONGOD, servers.MONGOS], ids=["same name", "no name"])
def test_what_cannot_be_told_from_the_same_deployment_is_adopted(
    to: servers.Character, server_of: ServerOf, serve: Serve
) -> None:
    other = moved(server_of, serve, to=to)
    container = serve(orders_of(), uri=other.uri)
    assert outcome(container)["error"] is None
    assert documents(container) == ["a"]
