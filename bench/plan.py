"""What a run of the benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends import Kind


@dataclass(frozen=True)
class Plan:
    """`rounds` of each comparison; `quick` makes everything smaller, for development only."""

    source: Kind = "stub"
    rounds: int = 7
    quick: bool = False

    def scaled(self, count: int) -> int:
        """How many changes to read where the full run reads `count`."""
        return max(100, count // 10) if self.quick else count
