"""A figure of the table, and how it is made of rounds: pure."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Target:
    """What a figure is to be: at least or at most `bound`."""

    bound: float
    side: Literal["≥", "≤"]

    def is_met_by(self, value: float) -> bool:
        """Whether a figure reaches the target."""
        return value >= self.bound if self.side == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.side} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """The median of `rounds` rounds, with the lowest and the highest.

    `row` is the name that `--only` takes, `case` what was varied, `what` the quantity in words.
    `notes` are the absolute values behind a ratio, in words.
    """

    row: str
    case: str
    what: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    target: Target | None = None
    notes: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.is_met_by(self.median)

    def as_json(self) -> dict[str, Any]:
        """All of it, the target in words."""
        target = None if self.target is None else str(self.target)
        return asdict(self) | {"target": target, "is_met": self.is_met}


@dataclass(frozen=True)
class Label:
    """What a figure is called; see `Figure`."""

    row: str
    case: str
    what: str
    unit: str = "×"
    target: Target | None = None

    def of(self, values: Sequence[float], notes: str = "") -> Figure:
        """The figure of one value a round."""
        return Figure(
            self.row,
            self.case,
            self.what,
            self.unit,
            statistics.median(values),
            min(values),
            max(values),
            len(values),
            self.target,
            notes,
        )

    def of_ratio(self, ours: Sequence[float], theirs: Sequence[float], notes: str = "") -> Figure:
        """Our value over theirs, round by round: what slows one round slows both of its sides."""
        return self.of([a / b for a, b in zip(ours, theirs, strict=True)], notes)


def at_least(bound: float) -> Target:
    """The target of a figure that should be high."""
    return Target(bound, "≥")


def at_most(bound: float) -> Target:
    """The target of a figure that should be low."""
    return Target(bound, "≤")


def text_of(value: float) -> str:
    """A value with as many digits as say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
