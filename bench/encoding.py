"""How fast a change is written as JSON, next to `bson.json_util` in the same run.

    python bench/encoding.py [--rounds 9] [--json PATH]

Ours and theirs take turns, so that a busy machine slows both; a figure is the median of the
rounds, its spread the slowest round less the fastest. The pinned change is `typical`.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from bson import json_util
from bson.binary import UuidRepresentation
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.timestamp import Timestamp
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "tidemark"))
from tidemark.encoding import EncodingMode, encode

ROUND_S = 0.05
ID = ObjectId("65f0c0ffee00112233445566")
AT = datetime(2024, 3, 12, 9, 30, 15, 123_000)
STANDARD = {"uuid_representation": UuidRepresentation.STANDARD}
THEIRS = {
    "relaxed": json_util.RELAXED_JSON_OPTIONS.with_options(**STANDARD),
    "canonical": json_util.CANONICAL_JSON_OPTIONS.with_options(**STANDARD),
}
ORDER: dict[str, Any] = {
    "_id": ID,
    "orderNumber": "A-2024-000137",
    "customerId": ObjectId("65f0c0ffee99887766554433"),
    "status": "shipped",
    "createdAt": AT,
    "updatedAt": AT,
    "total": 129.95,
    "items": [
        {"sku": "SKU-1", "qty": 2, "price": 49.5, "title": "Blue enamel mug"},
        {"sku": "SKU-2", "qty": 1, "price": 30.95, "title": "Oak board"},
    ],
    "address": {"street": "12 Long Lane", "city": "Leeds", "zip": "LS1 4AP"},
    "loyaltyPoints": Int64(12_345_678_901),
    "gift": False,
    "note": "Leave with a neighbour, please",
}


def update(document: dict[str, Any]) -> dict[str, Any]:
    """An update event with `updateLookup`, as PyMongo gives it."""
    return {
        "_id": {"_data": "8265F0C0FF000000012B022C0100296E5A1004" + 72 * "A"},
        "operationType": "update",
        "clusterTime": Timestamp(1_710_235_815, 3),
        "wallTime": AT,
        "fullDocument": document,
        "ns": {"db": "shop", "coll": "orders"},
        "documentKey": {"_id": ID},
        "updateDescription": {
            "updatedFields": {"status": "shipped", "updatedAt": AT},
            "removedFields": [],
            "truncatedArrays": [],
        },
    }


def lines(count: int) -> list[dict[str, Any]]:
    """List order lines of 150 B each."""
    return [
        {
            "sku": f"SKU-{n}",
            "qty": n,
            "price": n + 0.5,
            "seller": ID,
            "title": "Oak board",
            "at": AT,
        }
        for n in range(count)
    ]


CHANGES: dict[str, dict[str, Any]] = {
    "150 B, delete": {
        "operationType": "delete",
        "clusterTime": Timestamp(1_710_235_815, 3),
        "documentKey": {"_id": ID},
    },
    "typical": update(ORDER),
    "typical, a null in it": update({**ORDER, "gift": None}),
    "typical, a UUID as text": update({**ORDER, "trace": str(UUID(int=2**127))}),
    "typical, a Decimal128": update({**ORDER, "total": Decimal128("129.95")}),
    "typical, a native UUID": update({**ORDER, "trace": UUID(int=2**127)}),
    "typical, a NaN": update({**ORDER, "total": float("nan")}),
    "5 kB": update({**ORDER, "items": lines(30)}),
    "100 kB": update({**ORDER, "items": lines(750)}),
}


def theirs(change: dict[str, Any], mode: EncodingMode) -> bytes:
    """What one would write without this module; simplified has no equal, relaxed is nearest."""
    return json_util.dumps(change, json_options=THEIRS.get(mode, THEIRS["relaxed"])).encode()


def seconds(
    write: Callable[[dict[str, Any], EncodingMode], bytes], *args: Any, calls: int
) -> float:
    """Time one call, as the mean of `calls`."""
    begun = time.perf_counter()
    for _ in range(calls):
        write(*args)
    return (time.perf_counter() - begun) / calls


def measured(change: dict[str, Any], mode: EncodingMode, rounds: int) -> dict[str, Any]:
    """Let both sides write the change by turns, about 0.05 s each a round."""
    calls = max(1, int(ROUND_S / seconds(theirs, change, mode, calls=3)))
    pairs = [
        (seconds(theirs, change, mode, calls=calls), seconds(encode, change, mode, calls=calls))
        for _ in range(rounds)
    ]
    json_util_us, ours_us = ([1e6 * side for side in sides] for sides in zip(*pairs, strict=True))
    return {
        "bytes": len(encode(change, mode)),
        "json_util_us": statistics.median(json_util_us),
        "json_util_spread_us": max(json_util_us) - min(json_util_us),
        "encode_us": statistics.median(ours_us),
        "encode_spread_us": max(ours_us) - min(ours_us),
        "times_faster": statistics.median(
            a / b for a, b in zip(json_util_us, ours_us, strict=True)
        ),
    }


def results(rounds: int) -> Iterator[dict[str, Any]]:
    """Measure every change in every mode."""
    modes: tuple[EncodingMode, ...] = ("relaxed", "canonical", "simplified")
    for mode in modes:
        for name, change in CHANGES.items():
            yield {"mode": mode, "change": name, **measured(change, mode, rounds)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table: median, plus or minus half the spread."""
    table = Table("mode", "change", "bytes", "json_util µs", "encode µs", "times faster")
    for row in rows:
        table.add_row(
            row["mode"],
            row["change"],
            f"{row['bytes']:,}",
            f"{row['json_util_us']:.1f} ± {row['json_util_spread_us'] / 2:.1f}",
            f"{row['encode_us']:.1f} ± {row['encode_spread_us'] / 2:.1f}",
            f"{row['times_faster']:.1f}",
        )
    Console().print(table)


def main() -> None:
    """Measure, print and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="at least 5 (default 9)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    gc.disable()  # one collection in one round would count against one side
    rows = list(results(max(5, options.rounds)))
    show(rows)
    if options.json:
        about = {"python": platform.python_version(), "machine": platform.machine()}
        libraries = {name: version(name) for name in ("pymongo", "orjson")}
        options.json.write_text(json.dumps({**about, **libraries, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
