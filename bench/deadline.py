"""When runs return whose server, DynamoDB and sink stall at random, every one before its deadline.

A read is cut short at the budget's end. A `deliver` or a request to DynamoDB that is under way then
is not, and is waited for: that time is theirs and is taken off Tidemark's own lateness.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp

import backends
import child
import sides
from figures import Figure, Label, Target, at_least, at_most
from stalls import Stalls
from tidemark import aws as container_aws
from tidemark.invocation import StreamsFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plan import Plan
    from tidemark.model import Batch

ROW = "deadline"
RUNS = 1_000
AT_ONCE = 20
REMAINING_MS = 3_000  # reads for 2.1 s, returns before 3 s
RESERVE_S = 0.3 * REMAINING_MS / 1000  # the engine's share of so short an invocation
SINK_S = 0.06  # a delivery without a stall
STALLS = {  # what the reserve can pay for, but of the server, whose answers may never come
    "mongodb": ("--stall-share", "0.1", "--stall-up-to-s", "4"),
    "dynamodb": ("--stall-share", "0.2", "--stall-up-to-s", "0.15"),
}
SINK_STALLS = Stalls(0.1, 0.15)
Times = dict[str, float]


def figures(plan: Plan) -> Iterator[Figure]:
    """Percentiles of all runs."""
    with (
        backends.serve("stub", 10**9, 500, "--batch-bytes", "5000", *STALLS["mongodb"]) as served,
        backends.dynamodb(*STALLS["dynamodb"]) as aws,
    ):
        times: list[Times] = child.measure(
            "deadline.runs", aws, served=vars(served), runs=plan.scaled(RUNS)
        )
    what = "return after the budget's end, less the stalls under way"
    yield from _percentiles(what, [one["own_ms"] for one in times], at_most(100))
    yield from _percentiles("return after the budget's end", [one["late_ms"] for one in times])
    left = [one["left_ms"] for one in times]
    label = Label(ROW, "least of all runs", "left before the deadline", "ms", at_least(0))
    yield _one(label, min(left), left)


def _percentiles(what: str, values: list[float], target: Target | None = None) -> Iterator[Figure]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for case, value in {"p50": cuts[49], "p99": cuts[98], "max": max(values)}.items():
        label = Label(ROW, case, what, "ms", target if case == "max" else None)
        yield _one(label, value, values)


def _one(label: Label, value: float, values: list[float]) -> Figure:
    low, high = min(values), max(values)
    return Figure(
        label.row, label.case, label.what, label.unit, value, low, high, len(values), label.target
    )


@dataclass
class Waits:
    """What a run's thread was kept waiting by, from and until: deliveries and requests."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    begun: float = 0.0

    def begin(self, **_: Any) -> None:
        """A wait begins."""
        self.begun = time.monotonic()

    def end(self, **_: Any) -> None:
        """It ends."""
        self.spans.append((self.begun, time.monotonic()))

    def behind(self, moment: float) -> float:
        """Seconds of waiting after `moment`."""
        return sum(max(0.0, end - max(begun, moment)) for begun, end in self.spans)


class WaitsOfThreads:
    """Each worker thread's waits, found by the name of its stream."""

    def __init__(self) -> None:
        self.of_stream: dict[str, Waits] = {}

    def begin(self, **_: Any) -> None:
        """A request of this thread's begins."""
        self._mine().begin()

    def end(self, **_: Any) -> None:
        """It has been answered, or has failed."""
        self._mine().end()

    def deliver(self, _: Batch) -> None:
        """Take a while, sometimes long."""
        self.begin()
        time.sleep(SINK_S)
        SINK_STALLS.suffer()
        self.end()

    def _mine(self) -> Waits:
        return self.of_stream.setdefault(threading.current_thread().name, Waits())


def runs(served: dict[str, Any], runs: int) -> list[Times]:
    """In a child: `runs` invocations of a stream each, several at once."""
    start, waits = Timestamp(*served["start"]), WaitsOfThreads()
    streams = [sides.fresh_stream(start, idle_s=0.4, max_changes=10) for _ in range(runs)]
    container = sides.tidemark(served["uri"], *streams, deliver=waits.deliver, reserve_s=RESERVE_S)
    events = container_aws.client("dynamodb").meta.events
    events.register("before-call.dynamodb", waits.begin)
    events.register("after-call.dynamodb", waits.end)
    events.register("after-call-error.dynamodb", waits.end)

    def run(name: str) -> Times:
        begun = time.monotonic()
        with suppress(StreamsFailed):  # a server that stalls beyond the budget fails the run
            container.handle({"streams": [name]}, sides.Context(REMAINING_MS))
        return _times(begun, time.monotonic(), waits.of_stream.get(name, Waits()))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, [stream.name for stream in streams]))


def _times(begun: float, returned: float, waits: Waits) -> Times:
    stop = begun + REMAINING_MS / 1000 - RESERVE_S
    late = returned - stop
    return {
        "late_ms": 1e3 * late,
        "own_ms": 1e3 * (late - waits.behind(stop)),
        "left_ms": 1e3 * (begun + REMAINING_MS / 1000 - returned),
    }
