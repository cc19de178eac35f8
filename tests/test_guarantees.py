"""docs/guarantees.md names tests that exist and that cite the guarantee they prove."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = {
    row[1]: re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row[2])
    for row in re.finditer(
        r"^\| \*\*(G\d+)\*\* \|.*\| ([^|]+) \|$",
        (TESTS.parent / "docs" / "guarantees.md").read_text("utf-8"),
        re.MULTILINE,
    )
}


def docstrings(path: Path) -> dict[str, str]:
    """A test file's functions with their docstrings, in classes or not; "" is the file's own."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    of_functions = {node.name: ast.get_docstring(node) or "" for node in functions}
    return {"": ast.get_docstring(tree) or "", **of_functions}


def test_every_guarantee_has_its_row() -> None:
    assert list(ROWS) == [f"G{number}" for number in range(1, 13)]


@pytest.mark.parametrize("guarantee", ROWS)
def test_its_proofs_exist_and_cite_it(guarantee: str) -> None:
    assert ROWS[guarantee]
    for file, name in ROWS[guarantee]:
        told = docstrings(TESTS / file)
        cited = f"{told['']} {told[name]}" if name else " ".join(told.values())
        assert re.search(rf"\b{guarantee}\b|G1–|G1-", cited), (file, name)
