"""What a search judges beyond the truth of a random schedule: how a run ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemark.model import StopReason

if TYPE_CHECKING:
    from fakes import MemoryStore
    from simulation.truth import Truth
    from tidemark.model import StreamSummary


def judge_position(truth: Truth, store: MemoryStore, stream: str) -> None:
    """G1: a first position survives whatever happens behind it."""
    if truth.start is not None and store.stored(stream).checkpoint is None:
        truth.blame("G1", f"the first position {truth.start} is gone")


def judge_end(truth: Truth, summary: StreamSummary, *, reader_is_open: bool) -> None:
    """G11: no reader is left."""
    if reader_is_open:
        truth.blame("G11", f"a run that ended ({summary.stop_reason}) leaves its reader open")


def judge_read(truth: Truth, *, is_ours: bool) -> None:
    """G4: nobody reads who knows by its own clocks that its lease is over."""
    if not is_ours:
        truth.blame("G4", "a run reads that has outlived its lease")


def judge_last_run(truth: Truth, summary: StreamSummary) -> None:
    """G1, G11: one run without a fault, when everybody else is gone, settles all that is owed."""
    if truth.start is None or truth.owed():
        truth.blame("liveness", f"a last run ({summary.stop_reason}) leaves {truth.owed()}")
    if summary.stop_reason is not StopReason.CAUGHT_UP:
        truth.blame("liveness", f"a last run ends as {summary.stop_reason}: {summary.error}")
