"""Services that stall, throttle, refuse or hang up in the middle of a run."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from botocore.config import Config

from faulty_dynamodb import Fault, Requests
from service import Recorder, Service
from tidemark.dynamodb import CLIENT
from tidemark.invocation import StreamsFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from tcp_proxy import Proxy
    from tidemark.model import Batch
    from tidemark.settings import StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]
    Stored: TypeAlias = Callable[..., dict[str, Any]]
    BehindProxy: TypeAlias = Callable[..., tuple[Proxy, str]]

ONCE = CLIENT.merge(Config(retries={"total_max_attempts": 1, "mode": "standard"}))
REQUESTS = 5  # acquire, the first position, one for each of two batches, release
KEYS = [0, 1, 2, 3]


@pytest.mark.parametrize("number", range(REQUESTS))
@pytest.mark.parametrize("fault", Fault)
def test_dynamodb_failing_at_any_request_of_a_run_loses_nothing(
    fault: Fault,
    number: int,
    database: Db,
    orders: Orders,
    serve: Serve,
    expire: Callable[..., None],
) -> None:
    """G1, G2, G3: at most the unsaved batch comes again, and the run ends in words."""
    stream = orders(start_at="earliest", max_changes=2, checkpoint_interval_s=0)
    database.orders.insert_many([{"_id": key} for key in KEYS])
    failing = serve(stream, sdk=ONCE)
    requests = Requests({number: fault}).watch(failing.dynamodb)
    with contextlib.suppress(StreamsFailed):
        failing.run()
    assert all("stream 'orders'" in each["error_message"] for each in failing.named("run.failed"))
    assert len(requests.operations) > number
    requests.faults.clear()
    for _ in range(2):
        expire()
        healed = serve(stream)
        healed.run()
        failing.deliver.batches += healed.deliver.batches
    delivered = failing.deliver.keys
    assert sorted(set(delivered)) == KEYS
    first = [key for place, key in enumerate(delivered) if key not in delivered[:place]]
    assert first == KEYS
    assert len(delivered) <= len(KEYS) + 2


def test_dynamodb_repeating_a_request_is_not_noticed(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G1: the SDK's own repeats, answers lost at every first attempt."""
    database.orders.insert_many([{"_id": key} for key in KEYS])
    container = serve(orders(start_at="earliest", max_changes=2, checkpoint_interval_s=0))
    requests = Requests(dict.fromkeys(range(0, 10, 2), Fault.ANSWER_LOST))
    requests.watch(container.dynamodb)
    assert container.run()["orders"]["error"] is None
    assert len(requests.operations) == REQUESTS * 2
    assert container.deliver.keys == KEYS


def test_a_stalled_server_ends_the_run_before_the_deadline(
    database: Db, orders: Orders, serve: Serve, stored: Stored, behind_proxy: BehindProxy
) -> None:
    """G5: checkpoint written, lease given back, the error in words."""
    proxy, uri = behind_proxy()
    container = serve(
        orders(checkpoint_interval_s=300),
        deliver=Recorder(lambda _: proxy.stall()),
        uri=uri,
        mode="linger",
    )
    container.run(remaining_ms=900)
    database.orders.insert_one({"_id": 1})
    before = stored()["resume_token"]
    began_s = time.monotonic()
    with pytest.raises(StreamsFailed, match=r"SourceUnavailable: .*MongoDB did not answer, and"):
        container.run(remaining_ms=3000)
    assert time.monotonic() - began_s < 3
    after = stored()
    assert after["resume_token"] != before
    assert after["lease_expires_at_ms"] == "0"
    proxy.go()
    database.orders.insert_one({"_id": 2})
    container.deliver.before = lambda _: None
    container.run(remaining_ms=900)
    assert container.deliver.keys == [1, 2]


def test_a_server_that_stalls_at_opening_ends_the_run_before_the_deadline(
    orders: Orders, serve: Serve, stored: Stored, behind_proxy: BehindProxy
) -> None:
    """G5."""
    proxy, uri = behind_proxy()
    container = serve(orders(), uri=uri)
    container.run()
    proxy.stall()
    began_s = time.monotonic()
    with pytest.raises(StreamsFailed, match=r"OpeningTimedOut|SourceUnavailable"):
        container.run(remaining_ms=2000)
    assert time.monotonic() - began_s < 2
    assert stored()["lease_expires_at_ms"] == "0"
    proxy.go()


def test_a_server_that_stalls_at_closing_leaves_time_for_the_release(
    database: Db, orders: Orders, serve: Serve, stored: Stored, behind_proxy: BehindProxy
) -> None:
    """G5: in a short invocation too, whose reserve is short."""
    proxy, uri = behind_proxy()

    def outlast_the_budget(_: Batch) -> None:
        time.sleep(1.5)
        proxy.stall()

    container = serve(orders(), uri=uri)
    container.run()
    database.orders.insert_one({"_id": 1})
    container.deliver.before = outlast_the_budget
    began_s = time.monotonic()
    assert container.run(remaining_ms=2000)["orders"]["stop_reason"] == "budget"
    assert time.monotonic() - began_s < 2
    assert stored()["lease_expires_at_ms"] == "0"
    proxy.go()


@pytest.mark.parametrize("moment", ["between runs", "between batches"])
def test_connections_cut_lose_and_repeat_nothing(
    moment: str, database: Db, orders: Orders, serve: Serve, behind_proxy: BehindProxy
) -> None:
    """G1, G3: the driver resumes by itself."""
    proxy, uri = behind_proxy()

    def cut(_: Batch) -> None:
        if moment == "between batches":
            proxy.cut()

    container = serve(orders(max_changes=5), deliver=Recorder(cut), uri=uri)
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(300)])
    if moment == "between runs":
        proxy.cut()
    container.run()
    assert container.deliver.keys == list(range(300))


def test_a_slow_dynamodb_leaves_the_lease_to_expire_and_the_next_run_goes_on(
    database: Db, orders: Orders, serve: Serve, expire: Callable[..., None]
) -> None:
    """G1, G5: silence at the release; what was delivered since the checkpoint comes again."""
    container = serve(orders(), sdk=ONCE)
    container.run()
    database.orders.insert_one({"_id": 1})
    Requests({1: Fault.SILENCE}).watch(container.dynamodb)
    with pytest.raises(StreamsFailed, match=r"StoreUnavailable: .*DynamoDB did not answer"):
        container.run()
    assert serve(orders()).run()["orders"]["stop_reason"] == "lease_held"
    expire()
    after = serve(orders())
    after.run()
    assert after.deliver.ids == container.deliver.ids
