"""Change events encoded once, and the batches of them that a server would answer with.

The events of one block are encoded with a mark where the block's number belongs in their resume
tokens. Any number of changes is then had by writing another number over the mark, at the speed of
`bytes.replace`, and yet each has a token of its own to resume at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import bson
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from servers.wire import ARRAY, array, document, fields, nested

NAMESPACE = {"db": "bench", "coll": "changes"}
BATCH_BYTES = 16_000_000  # what a server answers with at most: 16 MiB, less the reply's own fields
CLUSTER_TIME = Timestamp(1_710_235_815, 1)  # of every change
OPERATION_TIME = Timestamp(0, 1)  # of every answer: each of the stub's tokens is past it
AT = datetime(2024, 3, 12, 9, 30, 15, 123_000)
ID = ObjectId("65f0c0ffee00112233445566")
BLOCK, NEXT_BLOCK = "blockmrk", "nextmark"  # each as long as the eight digits written over it
CHANGE, POST_BATCH = "00", "ff"
TOKEN_DIGITS = 40
TAIL_BYTES = 200  # behind the batch: its token, and the answer's own fields
CURSOR_ID = struct.Struct("<q")


@dataclass(frozen=True)
class Changes:
    """A stream of `count` changes of `size_bytes` each, in batches of up to `batch_bytes`."""

    count: int
    size_bytes: int
    batch_bytes: int = BATCH_BYTES
    _events: list[bytes] = field(init=False, repr=False)
    _full: bytearray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        per_block = max(1, self.batch_bytes // (self.size_bytes + 7))  # an array's key: 7 bytes
        events = [
            event(self.size_bytes, place) for place in range(min(per_block, max(1, self.count)))
        ]
        object.__setattr__(self, "_events", events)
        object.__setattr__(self, "_full", bytearray(_answer(events, token(NEXT_BLOCK, 0))))

    def index_behind(self, resume_token: str) -> int:
        """Which change comes next behind a token of ours."""
        block, place, mark = resume_token[2:10], resume_token[10:16], resume_token[16:18]
        index = int(block, 16) * len(self._events) + int(place, 16)
        return index + (mark == CHANGE)

    def batch(self, first: int, limit: int | None, cursor_id: int) -> tuple[bytearray, int]:
        """The server's answer from change `first` on, and the index behind it."""
        block, place = divmod(first, len(self._events))
        taken = min(len(self._events) - place, self.count - first, limit or self.count)
        if taken == len(self._events):
            answer = self._full
        else:
            behind = token(BLOCK, place + taken, POST_BATCH)
            answer = bytearray(_answer(self._events[place : place + taken], behind))
        return _numbered(answer, block, cursor_id), first + taken


def event(size_bytes: int, place: int) -> bytes:
    """A change event of exactly `size_bytes`; the smallest is what a `$project` leaves."""
    change: dict[str, Any] = {
        "_id": {"_data": token(BLOCK, place, CHANGE)},
        "operationType": "replace",
        "clusterTime": CLUSTER_TIME,
        "documentKey": {"_id": ID},
    }
    if size_bytes >= 400:
        change |= {"wallTime": AT, "ns": NAMESPACE, "fullDocument": _order(size_bytes - 400)}
    missing = size_bytes - len(bson.encode(change))
    if missing >= 9:
        change["padding"] = ""
        change["padding"] = "p" * (size_bytes - len(bson.encode(change)))
    return bson.encode(change)


def token(block: str, place: int, mark: str = POST_BATCH) -> str:
    """A resume token's text: opaque to everybody but the stub."""
    return f"82{block}{place:06x}{mark}".ljust(TOKEN_DIGITS, "0")


def _order(size_bytes: int) -> dict[str, Any]:
    """An order of about `size_bytes`, of as many lines as fit."""
    line = {"sku": "SKU-1", "qty": 2, "price": 49.5, "seller": ID, "title": "Oak board", "at": AT}
    count = size_bytes // (len(bson.encode(line)) + 6)
    return {"_id": ID, "number": "A-2024-000137", "total": 129.95, "items": [line] * count}


def _answer(events: list[bytes], behind: str) -> bytes:
    """An answer to getMore; its cursor's id stands at a fixed place: see `_numbered`."""
    cursor = document(
        fields({"id": Int64(0), "ns": "bench.changes"}),
        nested("nextBatch", array(events), ARRAY),
        fields({"postBatchResumeToken": {"_data": behind}}),
    )
    return document(nested("cursor", cursor), fields({"ok": 1.0, "operationTime": OPERATION_TIME}))


ID_OFFSET = _answer([], token(BLOCK, 0)).index(b"\x12id\0") + 4


def _numbered(answer: bytearray, block: int, cursor_id: int) -> bytearray:
    numbered = answer.replace(BLOCK.encode(), b"%08x" % block)
    if (at := numbered.rfind(NEXT_BLOCK.encode(), max(0, len(numbered) - TAIL_BYTES))) >= 0:
        numbered[at : at + 8] = b"%08x" % (block + 1)
    CURSOR_ID.pack_into(numbered, ID_OFFSET, cursor_id)
    return numbered
