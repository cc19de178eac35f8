"""What docs/crash-suite.md shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "crash-suite.md"
ROOT = PAGE.parents[1]


def code(language: str) -> list[str]:
    """The page's blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def test_the_pages_script_can_be_played() -> None:
    """On the engine as it is, it passes."""
    script = code("text")[0].partition("\n\n")[2]

    assert "replay(" in script
    exec(script, {})


def test_the_pages_test_of_ones_own_deliver_runs(crash_suite: Any) -> None:
    names: dict[str, Any] = {}
    exec(code("python")[0], names)

    names["test_every_order_is_in_the_ledger"](crash_suite)


def test_the_soak_prints_its_figures_and_the_mutations() -> None:
    """As a command of its own, without pytest's paths."""
    soak = [sys.executable, "tests/simulation/soak.py", "--schedules", "20", "--seed", "7"]
    done = subprocess.run(soak, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"schedules +20\n", done.stdout)
    assert re.search(r"violations +0\n", done.stdout)
    assert "NOT SEEN" not in done.stdout
