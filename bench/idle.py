"""What a run costs that finds nothing, and what each further stream of a function adds to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp
from pymongo import monitoring

import backends
import child
import sides
from figures import Label, at_most, text_of
from memory import resident_mb
from tidemark import aws as container_aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from plan import Plan

ROW = "idle"
STREAMS = (1, 10, 50)
Cost = dict[str, float]


def figures(plan: Plan) -> Iterator[Figure]:
    """One idle stream's requests and time; then the growth a stream."""
    costs: dict[int, list[Cost]] = {}
    for count in STREAMS:
        costs[count] = _measured(plan, count)
    yield from _one(costs[1])
    for count in STREAMS[1:]:
        yield from _growth(costs[1], costs[count], count)


def _measured(plan: Plan, streams: int) -> list[Cost]:
    """A child a round, so that memory starts anew."""
    with backends.serve("stub", 0, 500) as served, backends.dynamodb() as aws:
        return [
            child.measure("idle.cost", aws, served=vars(served), streams=streams)
            for _ in range(plan.rounds)
        ]


def _one(costs: list[Cost]) -> Iterator[Figure]:
    names = {
        "dynamodb": ("requests to DynamoDB", "requests", at_most(2)),
        "mongodb": ("commands to MongoDB", "commands", None),
        "ms": ("duration, of which 250 ms are one await", "ms", None),
        "cpu_ms": ("CPU", "ms", None),
    }
    for key, (what, unit, target) in names.items():
        label = Label(ROW, f"a warm run of one stream: {what}", "in all", unit, target)
        yield label.of([cost[key] for cost in costs])


def _growth(one: list[Cost], many: list[Cost], count: int) -> Iterator[Figure]:
    for key, unit in {"ms": "ms", "cpu_ms": "ms of CPU", "mb": "MB"}.items():
        growth = [(b[key] - a[key]) / (count - 1) for a, b in zip(one, many, strict=True)]
        total = text_of(sorted(cost[key] for cost in many)[len(many) // 2])
        label = Label(ROW, f"{count} streams", f"growth a stream, {key}", unit)
        yield label.of(growth, f"{total} {unit} in all")


def cost(served: dict[str, Any], streams: int) -> Cost:
    """In a child: a second run of all streams, when clients and positions are there."""
    counter = Counter()
    monitoring.register(counter)
    several = [sides.fresh_stream(Timestamp(*served["start"])) for _ in range(streams)]
    container = sides.tidemark(served["uri"], *several)
    events = container_aws.client("dynamodb").meta.events
    events.register("before-send.dynamodb", counter.count_request)
    container.handle({}, sides.Context())
    counter.requests = counter.commands = 0
    seconds, cpu_s = time.perf_counter(), time.process_time()
    container.handle({}, sides.Context())
    return {
        "ms": 1e3 * (time.perf_counter() - seconds),
        "cpu_ms": 1e3 * (time.process_time() - cpu_s),
        "mb": resident_mb("VmHWM"),
        "dynamodb": counter.requests,
        "mongodb": counter.commands,
    }


class Counter(monitoring.CommandListener):
    """Counts what leaves the process."""

    def __init__(self) -> None:
        self.requests = 0
        self.commands = 0

    def count_request(self, **_: Any) -> None:
        """One request to DynamoDB."""
        self.requests += 1

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """One command to MongoDB."""
        del event
        self.commands += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing."""
