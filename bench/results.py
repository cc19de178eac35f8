"""The figures on the screen and on disk, with the machine they were had on."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

import report
from figures import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from figures import Figure
    from plan import Plan

ROOT = Path(__file__).parents[1]
LATEST = ROOT / "bench" / "results" / "latest.json"
PUBLISHED = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
MEASURED_WITH = {"cpu": "throughput"}  # the same laps
MARKS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def line(figure: Figure) -> str:
    """One figure, as it comes."""
    return f"{figure.row}: {figure.case}: {_value(figure)} {MARKS[figure.is_met]}"


def tables(figures: Sequence[Figure]) -> Iterator[Table]:
    """One table a row of figures."""
    for (row, what), several in groupby(sorted(figures, key=_place), key=_place):
        made = Table("", "median", "lowest to highest", "target", "", "absolute")
        made.title, made.title_justify = f"{row}: {what}", "left"
        for figure in several:
            made.add_row(*_cells(figure))
        yield made


def write(plan: Plan, figures: Sequence[Figure], path: Path) -> None:
    """Write the figures and the machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [figure.as_json() | {"command": command(figure)} for figure in figures]
    text = json.dumps(about(plan) | {"figures": rows}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def publish(path: Path) -> None:
    """Make the figures in `path` those of the documentation."""
    text = path.read_text(encoding="utf-8")
    PUBLISHED.write_text(text, encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(report.filled(page, json.loads(text)), encoding="utf-8")


def command(figure: Figure) -> str:
    """What measures this figure again."""
    return f"python bench/run.py --only {MEASURED_WITH.get(figure.row, figure.row)}"


def about(plan: Plan) -> dict[str, Any]:
    """The machine, the versions and the settings of a run."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("pymongo", "boto3")},
        "source": plan.source,
        "quick": plan.quick,
    }


def _place(figure: Figure) -> tuple[str, str]:
    return figure.row, figure.what


def _cells(figure: Figure) -> list[str]:
    spread = f"{text_of(figure.low)} to {text_of(figure.high)}"
    mark = MARKS[figure.is_met]
    return [figure.case, _value(figure), spread, str(figure.target or ""), mark, figure.notes]


def _value(figure: Figure) -> str:
    return f"{text_of(figure.median)} {figure.unit}"


def _processor() -> str:
    """The processor's name; Linux tells it in /proc only."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
