"""docs/performance.md holds the figures of the last published run, and says nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import report

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "performance.md").read_text("utf-8")
RESULTS = json.loads((DOCS / "performance.json").read_text("utf-8"))


def test_the_page_holds_the_published_figures() -> None:
    assert report.filled(PAGE, RESULTS) == PAGE


@pytest.mark.parametrize("row", sorted({figure["row"] for figure in RESULTS["figures"]}))
def test_each_measured_row_is_on_the_page_with_its_command(row: str) -> None:
    command = next(f["command"] for f in RESULTS["figures"] if f["row"] == row)
    assert f"<!-- figures: {row} -->\n\n`{command}`" in PAGE


def test_every_row_of_the_page_was_measured() -> None:
    assert "Not measured" not in PAGE


def test_another_figure_is_another_page() -> None:
    changed = json.loads(json.dumps(RESULTS))
    changed["figures"][0]["median"] += 1000
    assert report.filled(PAGE, changed) != PAGE
