"""How fast a whole run reads, next to the driver's own `try_next()` loop on the same changes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp
from pymongo import MongoClient

import backends
import child
import sides
from figures import Label, at_least, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backends import Served
    from figures import Figure
    from plan import Plan

ROW = "throughput"
SIZES = {"150 B": 150, "500 B": 500, "5 kB": 5_000, "100 kB": 100_000}
COUNTS = {150: 200_000, 500: 100_000, 5_000: 8_000, 100_000: 500}
EMBEDDED_SHARE = 10  # the embedded server serves, and stores, a tenth as fast
Laps = list[dict[str, dict[str, float]]]


def figures(plan: Plan) -> Iterator[Figure]:
    """Every size; then what DynamoDB, `max_bytes` and reading ahead change at one of them."""
    for name, size in SIZES.items():
        yield from _of_size(plan, name, size)
    cases: dict[str, dict[str, Any]] = {
        "500 B, the loop at our collector's pace": {"same_pace": True},
        "500 B, store in memory": {"in_memory": True},
        "500 B, max_bytes": {"options": {"max_bytes": 1_000_000}},
        "500 B, read_ahead": {"options": {"read_ahead": True}},
    }
    for name, case in cases.items():
        yield from _of_size(plan, name, 500, **case)
    yield from _of_size(plan, "100 kB, max_bytes", 100_000, options={"max_bytes": 4_000_000})


def _of_size(plan: Plan, name: str, size_bytes: int, **case: Any) -> Iterator[Figure]:
    count = plan.scaled(COUNTS[size_bytes])
    if plan.source != "stub":
        count = max(100, count // EMBEDDED_SHARE)
    with (
        backends.serve(plan.source, count, size_bytes, "--empty-at-once") as served,
        backends.dynamodb() as aws,
    ):
        laps = measured(served, plan.rounds, aws, **case)
    yield of_laps(name, laps)
    yield cpu_of_laps(name, laps)


def measured(served: Served, rounds: int, aws: dict[str, str], **case: Any) -> Laps:
    """Laps of both sides by turns, in one process."""
    laps: Laps = child.measure(
        "throughput.laps",
        aws,
        served=vars(served),
        rounds=rounds,
        **case,
    )
    return laps


def of_laps(name: str, laps: Laps) -> Figure:
    """Changes a second, ours over theirs."""
    target = None if "," in name else at_least(0.95)
    rates = {
        side: [lap[side]["changes"] / lap[side]["seconds"] for lap in laps]
        for side in ("ours", "bare")
    }
    label = Label(ROW, name, "changes/s of a run over the bare loop's", target=target)
    middle = {side: text_of(sorted(values)[len(values) // 2]) for side, values in rates.items()}
    notes = f"{middle['ours']} over {middle['bare']} changes/s"
    return label.of_ratio(rates["ours"], rates["bare"], notes)


def cpu_of_laps(name: str, laps: Laps) -> Figure:
    """CPU a change, ours over theirs."""
    cost = {
        side: [1e6 * lap[side]["cpu_s"] / lap[side]["changes"] for lap in laps]
        for side in ("ours", "bare")
    }
    middle = {side: text_of(sorted(values)[len(values) // 2]) for side, values in cost.items()}
    label = Label("cpu", name, "CPU a change of a run over the bare loop's")
    return label.of_ratio(
        cost["ours"], cost["bare"], f"{middle['ours']} over {middle['bare']} µs a change"
    )


def laps(
    served: dict[str, Any],
    rounds: int,
    *,
    in_memory: bool = False,
    same_pace: bool = False,
    options: dict[str, Any] | None = None,
) -> Laps:
    """In a child: both sides by turns, after one lap of each that is not counted."""
    uri, count, collection = served["uri"], served["count"], served["collection"]
    begin = Timestamp(*served["start"])
    streams = [sides.fresh_stream(begin, collection, **(options or {})) for _ in range(rounds + 1)]
    store = sides.MemoryStore() if in_memory else None
    container = sides.tidemark(uri, *streams, store=store)
    with MongoClient[Any](uri) as client:
        loop = sides.paced_loop if same_pace else sides.bare_loop
        bare = partial(loop, client, begin, collection, count)
        pairs = [
            {"bare": bare, "ours": partial(sides.whole_run, container, stream)}
            for stream in streams
        ]
        return [_lap(pair, count, flipped=bool(n % 2)) for n, pair in enumerate(pairs)][1:]


def _lap(
    pair: Mapping[str, Callable[[], int]], count: int, *, flipped: bool
) -> dict[str, dict[str, float]]:
    """Both sides once; who is first changes, lest it pay for the other's garbage."""
    order = sorted(pair, reverse=flipped)
    lap = {side: sides.timed(pair[side]) for side in order}
    if {one.changes for one in lap.values()} != {count}:
        raise AssertionError(f"not all of {count} changes were read: {lap}")
    return {side: vars(one) for side, one in lap.items()}
