"""Draws the tide: how many changes were waiting at each moment, and where a SIGKILL fell. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo_record import Sample

BLOCKS = " ▁▂▃▄▅▆▇█"


def columns(samples: Sequence[Sample], width: int, span_s: float) -> list[Sample | None]:
    """The highest sample of each of `width` equal parts of `span_s`; None where there was none.

    A kill anywhere in a part marks it.
    """
    found: list[Sample | None] = [None] * width
    for sample in samples:
        place = min(width - 1, int(sample.at_s / span_s * width))
        found[place] = _higher(found[place], sample)
    return found


def rows(heights: Sequence[float], height: int) -> list[str]:
    """Bars of eighths of a character, top row first; each of `heights` is 0 to 1."""
    levels = [round(min(1.0, part) * height * 8) for part in heights]
    return [
        "".join(BLOCKS[max(0, min(8, level - row * 8))] for level in levels)
        for row in reversed(range(height))
    ]


def _higher(one: Sample | None, other: Sample) -> Sample:
    if one is None:
        return other
    top = max(one, other, key=lambda sample: sample.waiting)
    return type(top)(top.at_s, top.waiting, killed=one.killed or other.killed)
