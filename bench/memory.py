"""How much memory a run takes at its peak, and that it does not grow with what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp

import backends
import child
import sides
from figures import Label, at_most, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from plan import Plan

ROW = "memory"
COUNTS = {"10 k": 10_000, "300 k": 300_000, "1 M": 1_000_000}
BATCH_BYTES = 1_000_000  # of the server: the fewest changes fill five, so that growth is left
LARGE_BYTES, LARGE_COUNT = 100_000, 800
MAX_BYTES = {"100 kB, no max_bytes": None, "100 kB, max_bytes": 1_000_000}
SMALLEST_FUNCTION_MB = 128


def figures(plan: Plan) -> Iterator[Figure]:
    """Growth from the shortest run to the longest; then large changes in a small function."""
    counts = {name: plan.scaled(count) for name, count in COUNTS.items()}
    with backends.dynamodb() as aws:
        yield from _growth(plan, counts, aws)
        yield from _large(plan, aws)


def _growth(plan: Plan, counts: dict[str, int], aws: dict[str, str]) -> Iterator[Figure]:
    peaks: dict[str, list[float]] = {name: [] for name in counts}
    for _ in range(plan.rounds):
        for name, count in counts.items():
            peaks[name].append(_peak_mb(plan, aws, count, 500, BATCH_BYTES))
    first = next(iter(peaks.values()))
    for name, peak in list(peaks.items())[1:]:
        label = Label(ROW, f"{name} changes", "peak over the peak at 10 k", target=at_most(1.1))
        middle = [text_of(sorted(side)[len(side) // 2]) for side in (peak, first)]
        yield label.of_ratio(peak, first, f"{middle[0]} over {middle[1]} MB")


def _large(plan: Plan, aws: dict[str, str]) -> Iterator[Figure]:
    """Peaks in MB, with answers of the 16 MB that a server gives to who is behind."""
    for name, max_bytes in MAX_BYTES.items():
        target = at_most(SMALLEST_FUNCTION_MB) if max_bytes else None
        label = Label(ROW, name, "peak in a process of its own", "MB", target)
        yield label.of(
            [
                _peak_mb(plan, aws, plan.scaled(LARGE_COUNT), LARGE_BYTES, max_bytes=max_bytes)
                for _ in range(plan.rounds)
            ]
        )


def _peak_mb(
    plan: Plan,
    aws: dict[str, str],
    count: int,
    size_bytes: int,
    batch_bytes: int = backends.BATCH_BYTES,
    max_bytes: int | None = None,
) -> float:
    options = ("--empty-at-once", "--batch-bytes", str(batch_bytes))
    with backends.serve(plan.source, count, size_bytes, *options) as served:
        peak: float = child.measure(
            "memory.peak_mb", aws, served=vars(served), options={"max_bytes": max_bytes}
        )
    return peak


def peak_mb(served: dict[str, Any], options: dict[str, Any]) -> float:
    """In a child: the highest resident size of a process that does one run."""
    stream = sides.fresh_stream(Timestamp(*served["start"]), served["collection"], **options)
    sides.whole_run(sides.tidemark(served["uri"], stream), stream)
    return resident_mb("VmHWM")


def resident_mb(field: str) -> float:
    """`VmRSS` now or `VmHWM` at the most; Linux only, where getrusage counts the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(field))
    return int(found.split()[1]) * 1024 / 1e6
