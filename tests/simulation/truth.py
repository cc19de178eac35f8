"""What really happened to a stream, and whether the guarantees held: looked at after every step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fakes import Kind
from tidemark.model import Position, StopReason, change_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fakes import MemoryStore, ScriptedSource
    from simulation.process import Process
    from tidemark.model import Batch, Change, Checkpoint, Gap, StreamSummary


@dataclass(frozen=True)
class Violation:
    """A guarantee that did not hold."""

    guarantee: str
    what: str

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.what}"


@dataclass(slots=True)
class Figures:
    """What a number of schedules held."""

    schedules: int = 0
    steps: int = 0
    runs: int = 0
    crashes: int = 0
    overlaps: int = 0
    deliveries: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    gaps: int = 0

    def __add__(self, other: Figures) -> Figures:
        """Both together."""
        mine, others = asdict(self), asdict(other)
        return Figures(**{name: mine[name] + others[name] for name in mine})


class Truth:
    """Judges every delivery, dead letter and write to the store of one stream.

    A change's index is its place in the oplog; a position's is the number of entries before it.
    `settled`: delivered or durably set aside. `excused`: inside a recorded gap.
    """

    def __init__(self, stream: str, source: ScriptedSource, store: MemoryStore) -> None:
        self.violations: list[Violation] = []
        self.settled: set[int] = set()
        self.excused: set[int] = set()
        self.start: int | None = None
        self.figures = Figures(schedules=1)
        self._stream = stream
        self._source = source
        self._store = store
        self._stored: Checkpoint | None = None
        self._gaps_seen = 0
        self._fencing_token = 0
        self._is_released = True
        self._ids: dict[int, str] = {}
        self._delivered_by: set[tuple[int, int]] = set()
        self._invalidates: dict[str, Position] = {}  # stored as such: what was before each

    @property
    def position(self) -> int:
        """The stored position's index; 0 before there is one."""
        return self._index(self._stored.position) if self._stored else 0

    @property
    def arrived(self) -> list[Change]:
        """What the sink has said to have, in stream order, without repeats."""
        delivered = {index for _, index in self._delivered_by}
        changes = self._source.changes.items()
        return [self._source.shaped(change) for index, change in changes if index in delivered]

    def index_of(self, change: Change) -> int:
        """A change's place in the oplog."""
        return self._index(Position(resume_token=change["_id"])) - 1

    def owed(self, before: int | None = None) -> list[int]:
        """The changes that were promised and are not settled; all, or those before an index."""
        end = self._source.end if before is None else before
        first = 0 if self.start is None else self.start
        known = self.settled | self.excused
        return [
            index for index in self._source.changes if first <= index < end and index not in known
        ]

    def opened(self) -> None:
        """A stream is opened."""
        if self._stored is None:
            self.blame("G1", "a stream is read before its first position is stored")

    def begun(self, batch: Batch) -> None:
        """A delivery begins."""
        self._require_holder(batch.fencing_token, "delivers")
        indexes = [self.index_of(change) for change in batch]
        visible = [each for each in self._source.changes if indexes[0] <= each <= indexes[-1]]
        if indexes != visible:
            self.blame("G2", f"a batch holds the changes {indexes} of {visible}")
        if owed := self.owed(indexes[0]):
            self.blame("G2", f"change {indexes[0]} is delivered before {owed}")
        if indexes[0] < self.position:
            self.blame("G3", f"change {indexes[0]} comes again behind its checkpoint")
        for index, change in zip(indexes, batch, strict=True):
            self._check_identity(index, change, batch.fencing_token)

    def delivered(self, changes: Iterable[Change], fencing_token: int) -> None:
        """The sink has these changes."""
        for change in changes:
            index = self.index_of(change)
            self.figures.deliveries += 1
            self.figures.duplicates += index in self.settled
            self.settled.add(index)
            self._delivered_by.add((fencing_token, index))

    def setting_aside(self, fencing_token: int) -> None:
        """A dead letter is on its way."""
        self._require_holder(fencing_token, "sets a change aside")

    def set_aside(self, change: Change) -> None:
        """A dead letter is durable."""
        self.figures.dead_letters += 1
        self.settled.add(self.index_of(change))

    def written(self, fencing_token: int | None) -> None:
        """The store was asked to write by holder `fencing_token`, None for an acquisition."""
        known, taken = self._store.stored(self._stream), self._store.fencing_token(self._stream)
        if taken < self._fencing_token:
            self.blame("G4", f"the fencing token went from {self._fencing_token} to {taken}")
        changed = known.checkpoint != self._stored
        if changed and fencing_token is not None and fencing_token != taken:
            self.blame("G4", f"a checkpoint by the former holder {fencing_token} was accepted")
        renewed = self._store.expires_at_ms(self._stream) > 0
        if self._is_released and taken == self._fencing_token and renewed:
            self.blame("G4", f"the lease {taken} was lengthened after its release")
        self._is_released, self._fencing_token = not renewed, taken
        gaps = self._store.gaps[self._gaps_seen :]
        self._gaps_seen = len(self._store.gaps)
        if changed and known.checkpoint is not None:
            self._moved(known.checkpoint, gaps)

    def ended(self, process: Process) -> None:
        """A run has come to its own end."""
        for name, cause, _ in process.telemetry.errors:
            if name == "run.failed" and type(cause).__module__ != "tidemark.errors":
                self.blame("a run", f"ended in an unexplained {cause!r}")
        if any(reader.has_left_scan for reader in process.readers):
            self.blame("G11", "a run has ended, and its scan goes on in the server")
        summary = process.summary
        if summary is None or summary.fencing_token != self._fencing_token or summary.error:
            return
        if summary.stop_reason in (StopReason.CAUGHT_UP, StopReason.BUDGET):
            self._ended_well(self._fencing_token, process.empty_at)
            self._told_the_truth(process, summary)

    def blame(self, guarantee: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(guarantee, what))

    def _moved(self, checkpoint: Checkpoint, gaps: list[Gap]) -> None:
        """The stored position changed: it may pass only what is settled or in a recorded gap."""
        old, before = self._stored, self.position
        self._stored = checkpoint
        begins_later = old is not None and old.unopened and checkpoint.unopened and not gaps
        if self.start is None or begins_later:  # `earliest` was cut off before it was opened
            self.start = self.position
        for gap in gaps:
            self.figures.gaps += 1
            self._excuse(gap)
        if checkpoint.behind_invalidate and checkpoint.before is not None:
            self._invalidates[str(checkpoint.position)] = checkpoint.before
        jumped = checkpoint.position.operation_time is not None and old is not None
        moved = jumped and old is not None and checkpoint.position != old.position
        if moved and not gaps and not begins_later:
            self.blame("G7", f"the position jumped from {before} to {self.position} unrecorded")
        if owed := self.owed(self.position):
            self.blame("G1", f"the checkpoint {self.position} passed the undelivered {owed}")
        if self.position < before and not gaps:
            self.blame("G4", f"the position went back from {before} to {self.position}")
        behind = self._source.entry_at(self.position - 1) if self.position else None
        if behind is not None and behind.kind is Kind.FRAGMENT:
            self.blame("G1", f"the checkpoint {self.position} is inside a split event")

    def _excuse(self, gap: Gap) -> None:
        """A gap is a promise given up: it must be for the reason that its record says (G7)."""
        left = gap.from_checkpoint
        first = self._index(left.position) if left else 0
        skipped = [index for index in self.owed(self.position) if index >= first]
        if gap.reason == "invalidate_refused" and set(skipped) - set(self._source.invalidates):
            self.blame("G7", f"{skipped} are skipped as the refusal of an invalidate's token")
        before = self._invalidates.get(str(left.position)) if left else None
        kept = before is not None and self._source.pruned <= self._index(before)
        if gap.reason == "history_lost" and kept:
            self.blame("G7", f"history is called lost at {first}, of which nothing was lost")
        self.excused.update(range(first, self.position))

    def _ended_well(self, fencing_token: int, empty_at: int | None) -> None:
        """A run released its lease by itself: nothing that it did comes again."""
        mine = [index for token, index in self._delivered_by if token == fencing_token]
        if mine and max(mine) >= self.position:
            self.blame("G3", f"a run delivered {max(mine)} and released at {self.position}")
        if empty_at is not None and self.position < empty_at:
            self.blame("G6", f"a quiet run ended at {self.position}, it had read to {empty_at}")

    def _told_the_truth(self, process: Process, summary: StreamSummary) -> None:
        """G12: what a run reports of where it stands."""
        position = self._stored.position if self._stored else None
        time = self._source.time_of(position) if position else None
        if time is None:
            if summary.lag_ms is not None:
                self.blame("G12", f"a lag of {summary.lag_ms} ms that nobody can know")
            return
        began, heard = process.began_end, process.heard
        if summary.stop_reason is StopReason.CAUGHT_UP and began is not None and time < began:
            self.blame("G12", f"caught up at {time}, and the run began at {began}")
        if heard is not None and heard > time:
            true_ms = max(1, (heard.time - time.time) * 1000)
            if summary.lag_ms is None or summary.lag_ms < true_ms:
                self.blame("G12", f"a lag of {summary.lag_ms} ms, and it is {true_ms}")

    def _require_holder(self, fencing_token: int, doing: str) -> None:
        taken = self._store.fencing_token(self._stream)
        if fencing_token != taken:
            self.blame("G4", f"holder {fencing_token} {doing} after {taken} took the lease")

    def _check_identity(self, index: int, change: Change, fencing_token: int) -> None:
        if self._ids.setdefault(index, change_id(change)) != change_id(change):
            self.blame("G3", f"change {index} has changed its id")
        if (fencing_token, index) in self._delivered_by:
            self.blame("G3", f"change {index} is delivered twice by one run")
        if "splitEvent" in change:
            self.blame("G1", f"only a part of change {index} is delivered")

    def _index(self, position: Position) -> int:
        return self._source.index_of(position)
