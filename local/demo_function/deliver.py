"""The demo's own deliver(): one line a change, in one write, which not even SIGKILL can halve."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemark.model import Batch

# Work that takes a while, so that a kill meets a delivery half done.
WORK_S = 0.001
DELIVERIES = os.open(os.environ["DEMO_DELIVERIES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def deliver(batch: Batch) -> None:
    """Append what was delivered, by whose lease."""
    for change in batch:
        time.sleep(WORK_S)
        line = {
            "change_id": batch.change_id(change),
            "fencing_token": batch.fencing_token,
            "operation": change["operationType"],
            "document": change["documentKey"]["_id"],
            "version": _version(change),
        }
        os.write(DELIVERIES, json.dumps(line).encode() + b"\n")


def _version(change: Any) -> int | None:
    """The version that this very change wrote, not the one that the document has by now."""
    match change["operationType"]:
        case "update":
            return int(change["updateDescription"]["updatedFields"]["version"])
        case "delete":
            return None
        case _:
            return int(change["fullDocument"]["version"])
