"""Two faults at once, each of which alone is outlasted: found by an adversarial reading."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pymongo.uri_parser
import pytest

import servers
import service as services
from service import Recorder, Service
from shop import ORDERS, orders_of, outcome, seen
from tcp_proxy import Proxy
from tidemark import supervisor
from tidemark.model import Undecodable

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve: TypeAlias = Callable[..., Service]
    ServerOf: TypeAlias = Callable[..., servers.Server]
    Stored: TypeAlias = Callable[..., dict[str, Any]]

LONG = replace(servers.MONGOD_LONG_SCANS, fills_batches=False)
DAMAGE = (b"DAMAGED!", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe")


def address(uri: str) -> tuple[str, int]:
    [(host, port)] = pymongo.uri_parser.parse_uri(uri)["nodelist"]
    return host, port


@pytest.mark.parametrize("foreign", [300, 1_000])
def test_a_damaged_document_after_a_scan_is_set_aside_and_passed(
    foreign: int, server_of: ServerOf, serve: Serve
) -> None:
    """G1: it came with an answer that was asked for again, and the stream stood still for good."""
    server = server_of(LONG)
    with Proxy(address(server.uri), damage=DAMAGE) as proxy:
        container = serve(orders_of(on_failure="halt"), uri=proxy.mongodb_uri)
        container.run()
        server.insert(ORDERS, {"_id": "a"})
        server.foreign(foreign)
        server.insert(ORDERS, {"_id": "b", "text": "DAMAGED!"})
        summary = outcome(container, remaining_ms=8_000)
        assert seen(container) == ["a"]
        assert "StreamHalted" in (summary["error"] or "")
        [failed] = container.named("run.failed")
        assert "InvalidBSON" in failed["caused_by"] or Undecodable.__name__ in str(failed)
        container.source.close()


def test_a_client_made_anew_in_mid_run_is_judged_before_it_is_read(
    server_of: ServerOf, table: str, aws_endpoint: str, stored: Stored
) -> None:
    """G10: the old set falls silent, and the connection string leads to another by now."""
    assert aws_endpoint
    old, new = server_of(), server_of(replace(servers.MONGOD, set_name="restored"))
    with Proxy(address(old.uri)) as proxy:
        uri = [proxy.mongodb_uri]
        settings = services.settings_of(proxy.mongodb_uri, table, orders_of())
        container = services.service(settings, connection_string=lambda: uri[0])
        container.run()
        before = stored()
        new.insert(ORDERS, {"_id": "b"})
        new.noop()
        uri[0] = new.uri
        proxy.freeze_old()
        summary = outcome(container)
        assert "DefinitionChanged" in (summary["error"] or "")
        assert seen(container) == []
        assert stored()["resume_token"] == before["resume_token"]
        container.source.close()


@pytest.mark.parametrize("late_s", [0.06, 0.1])
def test_a_network_that_takes_its_time_fails_no_lingering_run(
    late_s: float, server_of: ServerOf, serve: Serve
) -> None:
    """G11: the last read of a run is a short one."""
    server = server_of()
    container = serve(orders_of(), uri=server.uri, mode="linger", max_await_ms=250)
    server.faults.before("getMore", lambda: time.sleep(late_s), times=1_000)
    for remaining_ms in (2_000, 2_070, 2_140):
        summary = outcome(container, remaining_ms=remaining_ms)
        assert (summary["error"], summary["stop_reason"]) == (None, "budget")
    assert container.named("source.interrupted") == []


def test_a_cut_at_the_opening_is_forgotten_once_the_driver_has_outlasted_it(
    server_of: ServerOf, serve: Serve
) -> None:
    """G11: and the scan after it is a scan, no dead server."""
    server = server_of(LONG)
    container = serve(orders_of(), uri=server.uri)
    container.run()
    server.foreign(6_000)
    server.insert(ORDERS, {"_id": "a"})
    server.faults.close_connection("aggregate")
    summary = outcome(container, remaining_ms=1_500)
    assert (summary["error"], summary["no_progress"]) == (None, True)


def test_a_stream_of_raw_documents_says_that_it_scans(server_of: ServerOf, serve: Serve) -> None:
    """G11: its tokens are compared as any others."""
    server = server_of(replace(servers.MONGOS, scan_cost_s=0.0007))
    container = serve(orders_of(max_bytes=1_000_000), uri=server.uri)
    container.run()
    server.foreign(6_000)
    server.insert(ORDERS, {"_id": "a"})
    assert outcome(container, remaining_ms=1_500)["no_progress"] is True


@pytest.mark.parametrize("closing_token", ["absent", "unchanged"])
def test_hidden_invalidates_in_a_row_record_no_gap(
    closing_token: Any, server_of: ServerOf, serve: Serve
) -> None:
    """G7: the second is searched after the first, which was passed."""
    server = server_of(replace(servers.MONGOD, closing_token=closing_token))
    shown = {"$match": {"operationType": "insert", "fullDocument.shown": True}}
    container = serve(orders_of(pipeline=(shown,)), uri=server.uri)
    container.run()
    for key, is_shown in (("a", True), ("b", False), ("c", True)):
        server.insert(ORDERS, {"_id": key, "shown": is_shown})
        server.drop(ORDERS)
    assert outcome(container)["error"] is None
    assert seen(container) == ["a", "c"]
    assert container.named("gap.recorded") == []


class _Ended(BaseException):
    """In the place of the process's end."""


def test_who_is_cut_short_by_another_streams_hang_leaves_nothing_behind(
    server_of: ServerOf, serve: Serve, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4, G5, G11: its lease is given back, its scan ended, and nobody is blamed."""
    made: Any = supervisor.Supervisor.__init__

    def ending(self: Any, *ports: Any, before_exit: Callable[[], None]) -> None:
        made(self, *ports, before_exit, _end)

    def _end(_code: int) -> None:
        raise _Ended

    monkeypatch.setattr(supervisor.Supervisor, "__init__", ending)
    server, going_on = server_of(LONG), threading.Event()
    going_on.set()
    deliver = Recorder(lambda batch: going_on.wait(5) if batch.stream == "orders" else None)
    hanging = orders_of(deliver_timeout_s=1.0)
    slow = orders_of(name="slow", collection="slow")
    container = serve(hanging, slow, uri=server.uri, deliver=deliver)
    container.run()
    server.insert(ORDERS, {"_id": "a"})
    server.foreign(20_000)
    going_on.clear()
    with contextlib.suppress(_Ended):
        container.run(remaining_ms=20_000)
    hung, cut_short = stored(), stored("slow")
    going_on.set()
    assert [each["stream"] for each in container.named("deliver.hung")] == ["orders"]
    assert (cut_short["lease_expires_at_ms"], "attempts" in cut_short) == ("0", False)
    assert hung["attempts_open"] == "1"
    assert server.scans_left_behind == 0
