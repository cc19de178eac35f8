"""What reading the next batch while the last is delivered gains where a sink waits."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp

import backends
import child
import sides
from figures import Label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from plan import Plan
    from tidemark.model import Batch

WAITS_MS = (0, 100, 400)
COUNT, SIZE_BYTES = 4_000, 20_000  # an answer of the server holds 800: each is one batch


def figures(plan: Plan) -> Iterator[Figure]:
    """A run with `read_ahead` over one without, by how long the sink waits for each batch."""
    for wait_ms in WAITS_MS:
        count = plan.scaled(COUNT)
        with (
            backends.serve("stub", count, SIZE_BYTES, "--empty-at-once") as served,
            backends.dynamodb() as aws,
        ):
            laps = child.measure(
                "overlap.laps", aws, served=vars(served), rounds=plan.rounds, wait_ms=wait_ms
            )
        case = f"deliver waits {wait_ms} ms for 800 changes"
        label = Label("overlap", case, "changes/s with read_ahead over those without")
        yield label.of_ratio([lap["without"] for lap in laps], [lap["ahead"] for lap in laps])


def laps(served: dict[str, Any], rounds: int, wait_ms: int) -> list[dict[str, float]]:
    """In a child: seconds of a run of each kind, by turns."""
    return [_lap(served, wait_ms, flipped=bool(n % 2)) for n in range(rounds + 1)][1:]


def _lap(served: dict[str, Any], wait_ms: int, *, flipped: bool) -> dict[str, float]:
    start = Timestamp(*served["start"])
    streams = {
        "ahead": sides.fresh_stream(start, read_ahead=True),
        "without": sides.fresh_stream(start),
    }
    container = sides.tidemark(served["uri"], *streams.values(), deliver=partial(_wait, wait_ms))
    return {
        side: sides.timed(partial(sides.whole_run, container, streams[side])).seconds
        for side in sorted(streams, reverse=flipped)
    }


def _wait(wait_ms: int, _: Batch) -> None:
    """As a sink does for the network: without the interpreter's lock."""
    if wait_ms:
        time.sleep(wait_ms / 1000)
