"""How far back the deployment's oplog reaches: what decides when a position is lost.

Asked at most once in `EVERY_S` a container, whoever asks: the oplog's end moves slowly, and the
answer must never be in the way of reading. Sources: MongoDB manual, "Replica Set Oplog" and
"serverStatus" (its section `oplog` holds both ends, for who has `clusterMonitor`); `local.oplog.rs`
is in neither `read` on a database nor `readAnyDatabase`, and does not exist behind mongos.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure

from tidemark.errors import TidemarkError
from tidemark.model import OplogWindow
from tidemark.mongodb.client import Client

EVERY_S = 300.0
NOT_READABLE = (
    "the oplog's ends cannot be read: grant the user find on local.oplog.rs or the role "
    "clusterMonitor; sharded clusters and Amazon DocumentDB do not show them"
)
Ask: TypeAlias = Callable[[Callable[[Client], Timestamp | None]], Timestamp | None]


class Oplog:
    """The last answer, and when it was had."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._asked_at_s = float("-inf")
        self._known = OplogWindow(None, "it was not asked for yet")

    def window(self, ask: Ask) -> OplogWindow:
        """The oplog's oldest time by `ask`, or what was known of it less than `EVERY_S` ago."""
        if self._asking.acquire(blocking=False):
            try:
                self._ask_if_due(ask)
            finally:
                self._asking.release()
        return self._known

    def _ask_if_due(self, ask: Ask) -> None:
        if time.monotonic() - self._asked_at_s < EVERY_S:
            return
        self._asked_at_s = time.monotonic()
        try:
            oldest = ask(_oldest)
        except TidemarkError as error:
            self._known = OplogWindow(None, f"it could not be asked for ({type(error).__name__})")
        else:
            self._known = OplogWindow(oldest, None if oldest else NOT_READABLE)


def first_entry(client: Client) -> Any:
    """The oplog's first entry, its time alone; None where there is no oplog."""
    oplog = client["local"]["oplog.rs"]
    return next(iter(oplog.find({}, {"ts": 1}).sort("$natural", 1).limit(1)), None)


def _oldest(client: Client) -> Timestamp | None:
    """The oplog's first entry's time, from the oplog itself or from the server's status."""
    try:
        entry = first_entry(client)
    except OperationFailure:
        return _from_status(client)
    return _timestamp(entry["ts"]) if entry else None


def _from_status(client: Client) -> Timestamp | None:
    sections = dict.fromkeys(("metrics", "locks", "wiredTiger", "repl", "tcmalloc"), 0)
    try:
        status = client.admin.command({"serverStatus": 1, "oplog": 1, **sections})
    except OperationFailure:
        return None
    earliest = status.get("oplog", {}).get("earliestOptime", {})
    return _timestamp(earliest.get("ts") if isinstance(earliest, dict) else earliest)


def _timestamp(value: object) -> Timestamp | None:
    return value if isinstance(value, Timestamp) else None
