"""Judges a stream after the chaos, by evidence that Tidemark had no hand in. Pure.

What was written is known from the server's acknowledgements, what was delivered from the sink's own
file, what was set aside from the queue, what was stored from the proxy before DynamoDB. What must
be true, whatever was killed, frozen or failed:

- G1: every write was delivered or is in the dead-letter queue.
- G2: no change comes for the first time once a later one has come; a call's changes are a gapless
  stretch of the stream. This holds for zombies too: whoever delivers a change has delivered the one
  before it, or began behind it.
- G3: a change comes again with the same id, and only from behind the checkpoint that the reader was
  given: nothing at or before what an earlier reader had stored.
- G1, G2, beside an oracle: what arrived, counted once for each id, is the multiset that a plain
  `watch()` has seen of the same collection, and each document's changes came in its order.
- G4: the table takes nothing from a former holder of the lease. A reader is late when one with a
  higher fencing token has delivered: only the one call that it was frozen in may still end so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING

import demo_verdict
from demo_verdict import Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Line(demo_verdict.Delivery):
    """A delivery, the call of `deliver` that it was part of, and the process that made it."""

    call: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter."""

    write: Write
    change_id: str
    error_type: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A write that DynamoDB took: of a reader's progress, or of a new reader's lease.

    `change_id` is None where the position did not move, or moved to no change's token.
    """

    fencing_token: int
    change_id: str | None = None
    acquired: bool = False
    has_position: bool = False


@dataclass
class Evidence:
    """All that is known of one stream, each in the order in which it happened."""

    writes: list[Write] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    watched: list[Write] = field(default_factory=list)
    """What a plain `watch()` of the driver's has seen."""
    frozen: set[int] = field(default_factory=set)
    """Processes that were stopped for longer than a lease, and went on."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the evidence shows: first the broken promises, then what is only counted."""

    lost: int = 0
    out_of_order: int = 0
    never_written: int = 0
    ambiguous: int = 0
    """G3: changes whose id differs from one delivery to the next, or is another change's."""
    behind_checkpoint: int = 0
    """G3: deliveries of what had been stored as done."""
    taken_from_former: int = 0
    """G4: writes of a former holder that DynamoDB took."""
    late_calls: int = 0
    """G4: calls of a former reader beyond the one that it was frozen in."""
    missing: int = 0
    """G1: changes that `watch()` saw, and nobody delivered or set aside."""
    surplus: int = 0
    """Changes that were delivered or set aside, and that `watch()` did not see."""
    reordered: int = 0
    """G2: documents whose changes came in another order than from `watch()`."""

    written: int = 0
    distinct: int = 0
    dead_lettered: int = 0
    both: int = 0
    """Dead-lettered after they had been delivered, as by containers that were killed behind it."""
    duplicates: int = 0
    again: int = 0
    """The duplicates under another fencing token than the last: what a crash brought back."""
    late: int = 0
    """Deliveries of zombies: the ends of calls that were frozen half done."""
    watched: int = 0
    """Seen by `watch()`."""

    @property
    def unlike_watch(self) -> int:
        """How many times Tidemark and `watch()` differ."""
        return self.missing + self.surplus + self.reordered

    @property
    def broken(self) -> int:
        """How many times a promise did not hold."""
        return sum(getattr(self, name) for name in BROKEN)

    def __add__(self, other: Findings) -> Findings:
        names = [each.name for each in fields(self)]
        return Findings(**{name: getattr(self, name) + getattr(other, name) for name in names})


BROKEN = (
    "lost",
    "out_of_order",
    "never_written",
    "ambiguous",
    "behind_checkpoint",
    "taken_from_former",
    "late_calls",
    "missing",
    "surplus",
    "reordered",
)


def judge(evidence: Evidence) -> Findings:
    """Judge one stream."""
    numbers = {write: number for number, write in enumerate(evidence.writes)}
    known = [line for line in evidence.lines if line.write in numbers]
    places = [numbers[line.write] for line in known]
    aside = {numbers[letter.write] for letter in evidence.letters if letter.write in numbers}
    counted = demo_verdict.judge(evidence.writes, _named(evidence), kills=0)
    late, late_calls = _late(known, evidence.frozen)
    arrived, watched = _arrived(evidence), Counter(evidence.watched)
    return Findings(
        lost=len(numbers.keys()) - len({*places} | aside),
        out_of_order=_first_too_late(places, aside) + _jumps(known, places),
        never_written=counted.never_written,
        ambiguous=counted.ambiguous,
        behind_checkpoint=_behind_checkpoint(known, places, evidence.stored),
        taken_from_former=_taken_from_former(evidence.stored),
        late_calls=late_calls,
        missing=(watched - arrived).total(),
        surplus=(arrived - watched).total(),
        reordered=_reordered(evidence),
        written=len(evidence.writes),
        distinct=len({*places}),
        dead_lettered=len(aside),
        both=len({*places} & aside),
        duplicates=len(places) - len({*places}),
        again=_again(known),
        late=late,
        watched=len(evidence.watched),
    )


def _arrived(evidence: Evidence) -> Counter[Write]:
    """What was delivered or set aside, each change once: an id is one change."""
    return Counter(
        write for write, _ in {(each.write, each.change_id) for each in _named(evidence)}
    )


def _reordered(evidence: Evidence) -> int:
    """Documents whose first deliveries do not come as `watch()` gave them.

    Only what both know is compared: a dead letter has no place among the deliveries, and what is
    missing is counted as such.
    """
    delivered = [line.write for line in evidence.lines]
    both = {*delivered} & {*evidence.watched}
    theirs, ours = (_by_document(each, both) for each in (evidence.watched, delivered))
    return sum(theirs[document] != ours[document] for document in theirs)


def _by_document(writes: Iterable[Write], wanted: set[Write]) -> Mapping[str, list[Write]]:
    """The wanted ones, each where it came first."""
    found: dict[str, list[Write]] = defaultdict(list)
    for write in dict.fromkeys(writes):
        if write in wanted:
            found[write.document].append(write)
    return found


def _named(evidence: Evidence) -> list[demo_verdict.Delivery]:
    """Everything that carries a change's id: dead letters must name it as deliveries do."""
    letters = (demo_verdict.Delivery(each.write, each.change_id, 0) for each in evidence.letters)
    return [*evidence.lines, *letters]


def _first_too_late(places: Sequence[int], aside: set[int]) -> int:
    """Changes that came for the first time behind a later one."""
    count, newest = 0, -1
    seen = set(aside)
    for place in places:
        count += place not in seen and place < newest
        newest = max(newest, place)
        seen.add(place)
    return count


def _jumps(lines: Sequence[Line], places: Sequence[int]) -> int:
    """Places within a call where the next change is not the next one of the stream."""
    calls: dict[str, list[int]] = {}
    for line, place in zip(lines, places, strict=True):
        calls.setdefault(line.call, []).append(place)
    return sum(b != a + 1 for call in calls.values() for a, b in pairwise(call))


def _behind_checkpoint(
    lines: Sequence[Line], places: Sequence[int], stored: Iterable[Stored]
) -> int:
    """Deliveries at or before what an earlier reader had stored as delivered."""
    ids = {line.change_id: place for line, place in zip(lines, places, strict=True)}
    reached = [(each.fencing_token, ids.get(each.change_id or "", -1)) for each in stored]
    floors = _floors({line.fencing_token for line in lines}, reached)
    pairs = zip(lines, places, strict=True)
    return sum(place <= floors[line.fencing_token] for line, place in pairs)


def _floors(tokens: set[int], reached: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """For each reader the furthest place that those before it had stored."""
    furthest: dict[int, int] = {}
    for token, place in reached:
        furthest[token] = max(place, furthest.get(token, -1))
    floors, floor = {}, -1
    for token in sorted(tokens | furthest.keys()):
        floors[token] = floor
        floor = max(floor, furthest.get(token, -1))
    return floors


def _taken_from_former(stored: Iterable[Stored]) -> int:
    count, holder = 0, 0
    for each in stored:
        count += each.fencing_token < holder
        holder = max(holder, each.fencing_token)
    return count


def _late(lines: Sequence[Line], frozen: set[int]) -> tuple[int, int]:
    """Deliveries behind a higher fencing token's, and the calls of these that had no excuse."""
    newest, count = 0, 0
    calls: dict[int, dict[str, int]] = {}
    for line in lines:
        if line.fencing_token < newest:
            count += 1
            calls.setdefault(line.fencing_token, {})[line.call] = line.pid
        newest = max(newest, line.fencing_token)
    return count, sum(_without_excuse(late, frozen) for late in calls.values())


def _without_excuse(late: Mapping[str, int], frozen: set[int]) -> int:
    """Of one reader's late calls: all but one, or all if nobody froze it."""
    return len(late) - (1 if {*late.values()} <= frozen else 0)


def _again(lines: Sequence[Line]) -> int:
    readers: dict[Write, int] = {}
    count = 0
    for line in lines:
        count += readers.get(line.write, line.fencing_token) != line.fencing_token
        readers[line.write] = line.fencing_token
    return count
