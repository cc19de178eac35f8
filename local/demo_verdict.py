"""Judges what was delivered by what was written. Pure, and blind to change streams.

The writer knows what it wrote because the server acknowledged it; a delivery is recognised by the
document and the version that the write gave it. Nothing that Tidemark says is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KILLS_WANTED = 2


@dataclass(frozen=True, slots=True)
class Write:
    """One acknowledged write; a document is deleted once, so a deletion has no version."""

    operation: str
    document: str
    version: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change that reached `deliver`, and the fencing token of the lease it came under."""

    write: Write
    change_id: str
    fencing_token: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The counts. `duplicates` are allowed, and recognisable: the same change, the same id."""

    written: int
    delivered: int
    distinct: int
    duplicates: int
    lost: int
    out_of_order: int
    never_written: int
    ambiguous: int
    """Changes whose id differs from one delivery to the next, or is another change's."""
    kills: int

    @property
    def broken(self) -> bool:
        """Whether a promise did not hold."""
        return self.lost + self.out_of_order + self.never_written + self.ambiguous > 0

    @property
    def kept(self) -> bool:
        """Whether every promise held, and was put to the test."""
        return not self.broken and self.written > 0 and self.kills >= KILLS_WANTED


def judge(writes: Sequence[Write], deliveries: Sequence[Delivery], kills: int) -> Verdict:
    """Compare; both in the order in which they happened, the writes by one sequential writer."""
    numbers = {write: number for number, write in enumerate(writes)}
    known = [delivery for delivery in deliveries if delivery.write in numbers]
    places = [(delivery.fencing_token, numbers[delivery.write]) for delivery in known]
    distinct = {delivery.write for delivery in known}
    return Verdict(
        written=len(writes),
        delivered=len(deliveries),
        distinct=len(distinct),
        duplicates=len(known) - len(distinct),
        lost=len(numbers) - len(distinct),
        out_of_order=_out_of_order(places),
        never_written=len(deliveries) - len(known),
        ambiguous=_ambiguous(known),
        kills=kills,
    )


def _out_of_order(places: Sequence[tuple[int, int]]) -> int:
    """Deliveries behind one that should come after them.

    Each reader delivers in the order of writing, and only the latest reader delivers at all; no
    change comes for the first time once a later one has come.
    """
    count, newest, seen = 0, -1, (-1, -1)
    delivered: set[int] = set()
    for place in places:
        number = place[1]
        first_and_late = number not in delivered and number < newest
        count += place <= seen or first_and_late
        newest, seen = max(newest, number), max(seen, place)
        delivered.add(number)
    return count


def _ambiguous(deliveries: Sequence[Delivery]) -> int:
    """G3: one change, one id."""
    pairs = {(delivery.write, delivery.change_id) for delivery in deliveries}
    writes = {write for write, _ in pairs}
    ids = {change_id for _, change_id in pairs}
    return (len(pairs) - len(writes)) + (len(pairs) - len(ids))
