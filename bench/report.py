"""docs/performance.md holds the figures of docs/performance.json, the last full run's.

The prose is written by hand; between `<!-- figures: ROW -->` and `<!-- end -->` stand a row's
tables, and in place of `<!-- machine -->`'s block what they were measured on. Pure.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from figures import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = re.compile(r"(<!-- (machine|figures: (\w+)) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| | median | lowest to highest | target | |\n|---|---|---|---|---|"
Json = dict[str, Any]


def filled(page: str, results: Json) -> str:
    """The page with every block written anew from `results`."""

    def block(found: re.Match[str]) -> str:
        text = machine(results) if found[2] == "machine" else tables(found[3], results)
        return f"{found[1]}\n{text}\n\n{found[4]}"

    return BLOCK.sub(block, page)


def machine(results: Json) -> str:
    """What the figures were measured on, and when."""
    about, libraries = results["machine"], results["libraries"]
    versions = ", ".join(f"{name} {number}" for name, number in libraries.items())
    quick = " A quick run: provisional." if results["quick"] else ""
    return (
        f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, "
        f"{about['system']}, Python {results['python']}, {versions}, {results['at']}, "
        f"source: {results['source']}.{quick}"
    )


def tables(row: str, results: Json) -> str:
    """One row's figures, a table for each quantity, under the command that measures it."""
    figures = [figure for figure in results["figures"] if figure["row"] == row]
    parts = [f"`{figures[0]['command']}`"] if figures else ["Not measured in the last run."]
    for what, several in groupby(figures, key=lambda figure: figure["what"]):
        parts.append(f"{what[0].upper()}{what[1:]}:")
        parts.append("\n".join([HEAD, *map(_line, several)]))
    return "\n\n".join(parts)


def _line(figure: Json) -> str:
    spread = f"{text_of(figure['low'])} to {text_of(figure['high'])}"
    cells = [
        figure["case"],
        f"**{text_of(figure['median'])} {figure['unit']}**",
        spread,
        " ".join(_target(figure)),
        figure["notes"],
    ]
    return f"| {' | '.join(cells)} |"


def _target(figure: Json) -> Iterator[str]:
    if figure["target"] is not None:
        yield figure["target"]
        yield "met" if figure["is_met"] else "**missed**"
