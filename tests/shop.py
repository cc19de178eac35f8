"""The stream "orders" on a server of `local/servers`, and what came of its runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tidemark.invocation import StreamsFailed
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from service import Service
    from tidemark.model import Change

ORDERS = "shop.orders"
SLOW_S = 0.0007  # what an oplog's entry costs to scan: a tenth of a minute's worth is 8,571


def orders_of(**given: Any) -> StreamSettings:
    """The stream on the collection that the tests write, changed by keywords."""
    own: dict[str, Any] = {"name": "orders", "database": "shop", "collection": "orders"}
    return StreamSettings(**({"idle_s": 0.02, **own} | given))


def outcome(container: Service, *, remaining_ms: int = 10_000) -> dict[str, Any]:
    """The summary of a run of the stream, whether it failed or not."""
    try:
        summary: dict[str, Any] = container.run(remaining_ms=remaining_ms)["orders"]
    except StreamsFailed as failed:
        told = json.loads(str(failed).partition(": ")[2])
        summary = told["streams"]["orders"]
    return summary


def seen(container: Service) -> list[Any]:
    """Each delivered change by its document's `_id`, else its operation, else "hidden"."""
    return [name_of(change) for change in container.deliver.changes]


def name_of(change: Change) -> Any:
    """What tells a change from others, whatever a pipeline has left of it."""
    key = change.get("documentKey") or change.get("fullDocument") or {}
    return key.get("_id", change.get("operationType", "hidden"))


def documents(container: Service) -> list[Any]:
    """The `_id` of each delivered change's document, without what has none."""
    return [name for name in seen(container) if name in DOCUMENTS]


DOCUMENTS = ("a", "b", "c", "d", "x", *range(200))
