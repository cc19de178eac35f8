"""G11: a passing fault of the server is outlasted inside the run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from servers.errors import CommandError
from shop import ORDERS, documents, orders_of, outcome
from tcp_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import servers
    from service import Service

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]

CODES = {
    63: "StaleShardVersion",
    133: "FailedToSatisfyReadPreference",
    134: "ReadConcernMajorityNotAvailableYet",
    150: "StaleEpoch",
    234: "RetryChangeStream",
    43: "CursorNotFound",
    11601: "Interrupted",
    237: "CursorKilled",
}
RETRIED_BY_THE_DRIVER = {134: 1}  # how often, at an aggregate
RESUMED_BY_THE_DRIVER = {43}  # at a getMore


def at_the_get_more() -> Iterator[Any]:
    """Each code; the driver itself resumes after a lost cursor."""
    for code, name in CODES.items():
        yield pytest.param(code, id=f"{code} {name}")


@pytest.mark.parametrize("code", CODES, ids=[f"{code} {name}" for code, name in CODES.items()])
def test_a_passing_fault_of_the_aggregate_is_outlasted(
    code: int, server_of: ServerOf, serve: Serve
) -> None:
    """Once and twice in a row, beyond what the driver itself outlasts; each time it is told."""
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    for times, key in ((1, "a"), (2, "b")):
        server.insert(ORDERS, {"_id": key})
        strikes = times + RETRIED_BY_THE_DRIVER.get(code, 0)
        server.faults.fail("aggregate", code, times=strikes)
        summary = outcome(container)
        assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
        assert server.faults.are_over
    assert documents(container) == ["a", "b"]
    told = container.named("source.interrupted")
    assert len(told) >= (0 if code in RETRIED_BY_THE_DRIVER else 2)


@pytest.mark.parametrize("code", [*at_the_get_more()])
def test_a_passing_fault_of_a_get_more_is_outlasted(
    code: int, server_of: ServerOf, serve: Serve
) -> None:
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"}, {"_id": "b"})
    server.faults.fail("getMore", code)
    summary = outcome(container)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert documents(container) == ["a", "b"]
    assert server.faults.are_over


@pytest.mark.parametrize("code", [43, 237])
def test_cursors_that_an_operator_kills_are_opened_again(
    code: int, server_of: ServerOf, serve: Serve
) -> None:
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.faults.before("getMore", lambda: server.kill_cursors(code))
    summary = outcome(container)
    assert (summary["error"], documents(container)) == (None, ["a"])
    assert code in RESUMED_BY_THE_DRIVER or container.named("source.interrupted") != []


def test_a_step_down_in_mid_run_is_outlasted(server_of: ServerOf, serve: Serve) -> None:
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.faults.before("getMore", lambda: server.step_down(for_s=1.0))
    summary = outcome(container)
    assert (summary["error"], summary["stop_reason"]) == (None, "caught_up")
    assert documents(container) == ["a"]


@pytest.mark.parametrize("code", [63, 237])
def test_a_fault_that_lasts_as_long_as_the_run_fails_it(
    code: int, server_of: ServerOf, serve: Serve, stored: Stored
) -> None:
    """The position stays, and no remedy sends the operator to another's documentation."""
    server = server_of()
    container = serve(orders_of(), uri=server.uri)
    container.run()
    before = stored()["resume_token"]
    server.faults.fail("aggregate", code, times=10_000)
    summary = outcome(container, remaining_ms=1_500)
    assert summary["stop_reason"] == "failed"
    assert str(code) in summary["error"]
    assert "documentation" not in summary["error"]
    assert 2 <= server.count("aggregate") - 1 < 50
    assert stored()["resume_token"] == before


# -------------------------------------------------------------------------- 8: a thawed container


def wait_for_the_monitor(server: servers.Server) -> None:
    """Let the driver's second look at the server pass: the next one is ten seconds off."""
    until_s = time.monotonic() + 2
    while server.count("hello") < 2 and time.monotonic() < until_s:
        time.sleep(0.05)


def test_a_container_whose_connections_died_in_silence_opens_new_ones(
    server_of: ServerOf, serve: Serve
) -> None:
    """As a frozen container finds them: old connections are dead, new ones work."""
    server = server_of()
    host, _, port = server.address.partition(":")
    with Proxy((host, int(port))) as proxy:
        container = serve(orders_of(), uri=proxy.mongodb_uri)
        container.run()
        wait_for_the_monitor(server)
        proxy.freeze_old()
        server.insert(ORDERS, {"_id": "a"})
        begun_s = time.monotonic()
        summary = outcome(container)
        assert (summary["error"], documents(container)) == (None, ["a"])
        assert time.monotonic() - begun_s < 5
        container.source.close()


# ------------------------------------------------------------------------- 15: a code of no list


def test_a_code_of_no_list_leaves_position_and_delivered_set_in_agreement(
    server_of: ServerOf, serve: Serve
) -> None:
    """Whatever comes of the run: another goes on exactly after what was delivered."""
    server = server_of()
    stream = orders_of(max_changes=2)
    container = serve(stream, uri=server.uri)
    container.run()
    server.insert(ORDERS, *({"_id": n} for n in range(5)))

    def strike() -> None:
        if container.deliver.changes:
            raise CommandError(99_999)

    server.faults.before("getMore", strike, times=1_000)
    assert "99999" in outcome(container, remaining_ms=3_000)["error"]
    server.faults.clear()
    server.insert(ORDERS, {"_id": "x"})
    other = serve(stream, uri=server.uri)
    assert outcome(other)["error"] is None
    assert documents(container) + documents(other) == [0, 1, 2, 3, 4, "x"]
