"""What the chaos says: one line while it goes on, and the verdict."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos_verdict import BROKEN, Evidence, Findings, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from chaos_record import Record

EVERY_S = 10.0  # where the line cannot be written over


@dataclass(frozen=True, slots=True)
class Tally:
    """What was done to the function, and how it fared."""

    kills: int
    kills_amid: int
    runs: int
    failed: int
    timed_out: int
    freezes: int
    failpoints: int
    faults: int
    written: int
    waiting: int
    stalled_s: float
    restarts: int = 0
    """Of the plain `watch()` beside it."""


@dataclass
class Progress:
    """One line, written over again and again on a terminal."""

    kills_wanted: int
    _began_s: float = field(default_factory=time.monotonic)
    _shown_at_s: float = -EVERY_S

    @property
    def passed_s(self) -> float:
        """Seconds since the chaos began."""
        return time.monotonic() - self._began_s

    def show(self, tally: Tally) -> None:
        """Show it now, or when it is time."""
        on_terminal = sys.stdout.isatty()
        if not on_terminal and self.passed_s - self._shown_at_s < EVERY_S:
            return
        self._shown_at_s = self.passed_s
        end = "\033[K\r" if on_terminal else "\n"
        print(self._line(tally), end=end, flush=True)

    def end(self) -> None:
        """Leave the line."""
        print(f"\033[K{self.passed_s:.0f} s" if sys.stdout.isatty() else f"{self.passed_s:.0f} s")

    def _line(self, tally: Tally) -> str:
        return (
            f"{self.passed_s:4.0f} s · {tally.kills}/{self.kills_wanted} kills · "
            f"{tally.freezes} freezes · {tally.failpoints} failpoints · {tally.faults} DynamoDB "
            f"faults · {tally.written} written · {tally.waiting} waiting · "
            f"stood still for {tally.stalled_s:.1f} s at most"
        )


@dataclass(frozen=True)
class Report:
    """The verdict over all streams."""

    tally: Tally
    findings: Findings
    troubles: Sequence[str]

    @classmethod
    def of(cls, tally: Tally, evidence: Iterable[Evidence], troubles: Sequence[str]) -> Report:
        """Judge each stream, and add up."""
        return cls(tally, sum(map(judge, evidence), Findings()), troubles)

    def kept(self, kills_wanted: int) -> bool:
        """Whether every promise held, and was put to the test."""
        tested = self.tally.kills >= kills_wanted and self.findings.written > 0
        return tested and not self.findings.broken and not self.troubles

    def text(self, kills_wanted: int) -> str:
        """A table, the troubles, and the verdict's line."""
        rows = [f"  {name:<44}{value:>10}" for name, value in self._rows()]
        troubles = [f"  trouble: {each}" for each in self.troubles]
        return "\n".join([*rows, *troubles, self._verdict(kills_wanted)])

    def _rows(self) -> Iterable[tuple[str, object]]:
        tally, found = self.tally, self.findings
        yield "SIGKILLs that ended an invocation", tally.kills
        yield "… while it held a lease and delivered", tally.kills_amid
        yield "freezes beyond the lease", tally.freezes
        yield "failpoints armed in MongoDB", tally.failpoints
        yield "DynamoDB requests or answers spoilt", tally.faults
        yield "invocations", tally.runs
        yield "… that failed, or were ended at the timeout", tally.failed
        yield "written", found.written
        yield "delivered, distinct", found.distinct
        yield "dead-lettered", found.dead_lettered
        yield "… and delivered as well", found.both
        yield "duplicates", found.duplicates
        yield "… under another lease than before", found.again
        yield "… of these, for each kill", f"{found.again / max(1, tally.kills):.1f}"
        yield "zombie deliveries (duplicates are allowed)", found.late
        yield "longest time without progress", f"{tally.stalled_s:.1f} s"
        yield "seen by a plain watch() beside it", found.watched
        yield "… which had to be opened again", tally.restarts
        for name in BROKEN:
            yield WORDS[name], getattr(found, name)

    def _verdict(self, kills_wanted: int) -> str:
        found = self.findings
        words = "KEPT" if self.kept(kills_wanted) else "BROKEN"
        if self.tally.kills < kills_wanted:
            words += f" (only {self.tally.kills} of {kills_wanted} kills)"
        return (
            f"{words}: {found.written} written, {found.distinct} distinct, "
            f"{found.dead_lettered} dead-lettered, {found.lost} lost, "
            f"{found.out_of_order} out of order, {found.unlike_watch} unlike watch(), "
            f"{found.again / max(1, self.tally.kills):.1f} duplicates for each of "
            f"{self.tally.kills} kills"
        )


WORDS = {
    "lost": "G1 lost",
    "out_of_order": "G2 out of order",
    "never_written": "never written",
    "ambiguous": "G3 one change with two ids, or two with one",
    "behind_checkpoint": "G3 delivered again behind a checkpoint",
    "taken_from_former": "G4 writes taken from a former holder",
    "late_calls": "G4 deliveries begun by a former holder",
    "missing": "G1 seen by watch(), not delivered",
    "surplus": "delivered more often than watch() saw it",
    "reordered": "G2 documents in another order than watch()'s",
}


def keep_evidence(folder: Path, records: Iterable[Record]) -> None:
    """Write all that is known of each stream beside its deliveries."""
    for record in records:
        evidence = json.dumps(dataclasses.asdict(record.evidence), default=list)
        (folder / f"{record.stream}.json").write_text(evidence)
