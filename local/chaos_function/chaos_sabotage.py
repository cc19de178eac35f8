"""Deliberate breakages of each promise: `make chaos` must find every one of them.

`drop` loses a change now and then, `swap` turns batches round, `early` stores the checkpoint before
the delivery, `unfenced` lets a former holder of the lease store its checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemark import dynamodb
from tidemark.settle import Settlement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidemark.model import Batch

WAYS = ("drop", "swap", "early", "unfenced")
DROPPED = "7"  # by the last digit of a document's name


def commit(way: str) -> None:
    """Break the engine in that way; those of the sink are `spoiled`'s."""
    if way == "early":
        _checkpoint_early()
    if way == "unfenced":
        dynamodb.IS_HOLDER = "fencing_token >= :mine"


def spoiled(way: str, batch: Batch) -> Sequence[Any]:
    """The batch as a sink of that kind treats it."""
    changes = list(batch)
    if way == "drop":
        return [change for change in changes if change["documentKey"]["_id"][-1] != DROPPED]
    return changes[::-1] if way == "swap" else changes


def _checkpoint_early() -> None:
    attempt = Settlement._attempt

    def early(self: Settlement, changes: Sequence[Any]) -> Any:
        self._progress.delivered(changes)
        self._progress.save()
        return attempt(self, changes)

    Settlement._attempt = early  # type: ignore[method-assign]
