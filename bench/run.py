"""The benchmark: every figure a ratio measured side by side, or a bound, with its spread.

    python bench/run.py [--quick] [--only NAME …] [--source stub|embedded|uri] [--publish]

The table is on the screen, the same as JSON in bench/results/latest.json. The two sides of a ratio
take turns within one process, or in fresh processes where memory or start are measured, so that a
busy machine slows both; a figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "tidemark"))
sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
import deadline
import encoded
import idle
import latency
import memory
import overlap
import results
import sinks
import startup
import throughput
from peers import compare
from plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure

ROWS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "throughput": throughput.figures,
    "memory": memory.figures,
    "startup": startup.figures,
    "idle": idle.figures,
    "deadline": deadline.figures,
    "latency": latency.figures,
    "overlap": overlap.figures,
    "encoding": encoded.figures,
    "sinks": sinks.figures,
    "peers": compare.figures,
}


def main() -> int:
    """Measure what was asked for; 1 where a target was missed."""
    options = _options()
    plan = Plan(options.source, max(5, options.rounds) if not options.quick else 3, options.quick)
    console = Console()
    figures = []
    for name in options.only or ROWS:
        for figure in ROWS[name](plan):
            figures.append(figure)
            console.print(results.line(figure))
    console.print(*results.tables(figures), sep="\n")
    results.write(plan, figures, options.json)
    if options.publish:
        results.publish(options.json)
    return int(any(figure.is_met is False for figure in figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and rough, for development")
    parser.add_argument("--only", nargs="+", choices=sorted(ROWS), metavar="NAME")
    parser.add_argument("--source", choices=("stub", "embedded", "uri"), default="stub")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5 (default 7)")
    parser.add_argument(
        "--publish", action="store_true", help="make these the figures of docs/performance.md"
    )
    parser.add_argument("--json", type=Path, default=results.LATEST)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
