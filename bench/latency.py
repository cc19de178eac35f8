"""How soon a lingering run delivers what is written, next to a bare loop on the same server."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

import backends
import child
import mongodb
import sides
from figures import Label, at_most, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure
    from plan import Plan
    from tidemark.model import Batch

WRITES = 150
PAUSE_S = 0.01
REMAINING_MS = 20_000


def figures(plan: Plan) -> Iterator[Figure]:
    """The difference of the medians; the stub cannot be written to."""
    with mongodb.given_or_embedded() as uri, backends.dynamodb() as aws:
        laps = child.measure(
            "latency.laps", aws, uri=uri, rounds=plan.rounds, writes=plan.scaled(WRITES)
        )
    middles = {side: [lap[side] for lap in laps] for side in ("ours", "bare")}
    label = Label("latency", "p50", "write to deliver, beyond a bare loop", "ms", at_most(2))
    notes = " over ".join(text_of(statistics.median(middles[side])) for side in ("ours", "bare"))
    beyond = [a - b for a, b in zip(middles["ours"], middles["bare"], strict=True)]
    yield label.of(beyond, f"{notes} ms")


@dataclass
class Stopwatch:
    """When each numbered document was written and delivered; -1 opens, the last one closes."""

    last: int
    written: dict[int, float] = field(default_factory=dict)
    delivered: dict[int, float] = field(default_factory=dict)
    heard: threading.Event = field(default_factory=threading.Event)

    def note(self, change: Any) -> bool:
        """Note a delivery; False at the last."""
        number = change["documentKey"]["_id"]
        self.delivered.setdefault(number, time.perf_counter())
        self.heard.set()
        return bool(number != self.last)

    def median_ms(self) -> float:
        """The median of all but the first, which may have waited for the stream to open."""
        return 1e3 * statistics.median(
            self.delivered[number] - self.written[number] for number in range(self.last)
        )


def laps(uri: str, rounds: int, writes: int) -> list[dict[str, float]]:
    """In a child: both listen by turns to the same writes."""
    with MongoClient[Any](uri) as client:
        kinds: dict[str, Callable[..., None]] = {"ours": _linger, "bare": _loop}
        taken = [
            {
                side: _median_ms(client, partial(kinds[side], uri), writes)
                for side in sorted(kinds, reverse=bool(n % 2))
            }
            for n in range(rounds + 1)
        ]
        client.drop_database(sides.DATABASE)
    return taken[1:]


def _median_ms(client: MongoClient[Any], listen: Callable[..., None], writes: int) -> float:
    collection = client[sides.DATABASE][f"latency_{time.monotonic_ns()}"]
    watch = Stopwatch(last=writes)
    listener = threading.Thread(target=listen, args=(collection.name, watch))
    listener.start()
    for number in itertools.count(-1000):  # until one is heard, the stream is not open yet
        collection.insert_one({"_id": number})
        if watch.heard.wait(0.02):
            break
    for number in range(writes + 1):
        time.sleep(PAUSE_S)
        watch.written[number] = time.perf_counter()
        collection.insert_one({"_id": number})
    listener.join()
    return watch.median_ms()


def _linger(uri: str, collection: str, watch: Stopwatch) -> None:
    """A run that lingers, until its budget ends: `deliver` cannot end it."""

    def deliver(batch: Batch) -> None:
        for change in batch:
            watch.note(change)

    stream = sides.fresh_stream("now", collection)
    container = sides.tidemark(
        uri, stream, deliver=deliver, mode="linger", budget_s=3 + watch.last * 0.03
    )
    container.handle({}, sides.Context(REMAINING_MS))


def _loop(uri: str, collection: str, watch: Stopwatch) -> None:
    """The driver's own loop, until the last write."""
    with (
        MongoClient[Any](uri) as client,
        client[sides.DATABASE][collection].watch(max_await_time_ms=250) as stream,
    ):
        while (change := stream.try_next()) is None or watch.note(change):
            pass
