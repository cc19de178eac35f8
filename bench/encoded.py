"""The figures of `encoding.py`, which runs by itself too, as rows of this table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import child
from figures import Figure, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plan import Plan

MODE = "relaxed"


def figures(plan: Plan) -> Iterator[Figure]:
    """How long a change takes to be written as JSON, in the mode that sinks use by default."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoding.json"
        command = [sys.executable, str(child.HERE / "encoding.py"), "--rounds", str(plan.rounds)]
        subprocess.run(
            [*command, "--json", path],
            env=child.environment({}),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rows = json.loads(path.read_text())["results"]
    for row in rows:
        if row["mode"] == MODE:
            yield _figure(row, max(5, plan.rounds))


def _figure(row: dict[str, float], rounds: int) -> Figure:
    middle, half = row["encode_us"], row["encode_spread_us"] / 2
    notes = f"{text_of(row['times_faster'])} times as fast as bson.json_util"
    what = "one change as Extended JSON"
    low, high = max(0.0, middle - half), middle + half
    return Figure(
        "encoding", str(row["change"]), what, "µs", middle, low, high, rounds, None, notes
    )
