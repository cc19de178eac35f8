"""Reads the stream's item in DynamoDB: the demo believes the table, not the function."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class State:
    """The checkpoint item, as a person wants to see it."""

    owner: str = ""
    expires_in_s: float = 0.0
    fencing_token: int = 0
    position: str = "none yet"
    checkpoint_age_s: float | None = None

    @property
    def held(self) -> bool:
        """Whether a run holds the lease, or one that was killed still does."""
        return self.expires_in_s > 0


def read(client: DynamoDBClient, table: str, stream: str) -> State:
    """The stream's state now; the empty one before its first run."""
    key = {"stream": {"S": stream}, "record": {"S": "checkpoint"}}
    return of_item(client.get_item(TableName=table, Key=key).get("Item", {}), time.time())


def of_item(item: Mapping[str, Any], now_s: float) -> State:
    """The item's attributes, with times relative to `now_s`."""
    checkpointed_ms = _number(item, "checkpointed_at_ms")
    return State(
        owner=str(item.get("lease_owner", {}).get("S", ""))[:8],
        expires_in_s=_number(item, "lease_expires_at_ms") / 1000 - now_s,
        fencing_token=_number(item, "fencing_token"),
        position=_position(item),
        checkpoint_age_s=now_s - checkpointed_ms / 1000 if checkpointed_ms else None,
    )


def _number(item: Mapping[str, Any], name: str) -> int:
    return int(item.get(name, {}).get("N", 0))


def _position(item: Mapping[str, Any]) -> str:
    """As the function's log has it: enough to see that it moved, nothing of the token itself."""
    if token := item.get("resume_token", {}).get("S"):
        return f"token {hashlib.sha256(token.encode()).hexdigest()[:12]}"
    if moment := item.get("operation_time", {}).get("S"):
        return f"time {moment}"
    return "none yet"
