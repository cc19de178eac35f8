"""What a search holds fixed: the settings, what is written, and which faults may happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from fakes import HIDDEN_INVALIDATE, IDLE, INVALIDATE, Traits, insert
from fakes.traits import KIND
from tidemark.settings import Settings, StreamSettings

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from fakes import Entry

Fault: TypeAlias = Literal[
    "crash",
    "answer_lost",
    "freeze",
    "history_lost",
    "drop",
    "delivery_fails",
    "invalidates_refused",
]

STREAM = "orders"
EPOCH_MS = 1_800_000_000_000
LEASE_S = 8.0
SKEW_S = 2.0  # how far apart the engine allows two containers' clocks to be
JUMP_S = LEASE_S + 2 * SKEW_S  # whatever lease was written before is over after it, on any clock
JUMP_MS = int(JUMP_S * 1000)
LONG_AGO_MS = 1  # when every lease ended that is over
RESERVE_S = 2.0
LAST_CONTAINER = 2  # which runs alone, when everybody else is gone
CALL_S = 0.001  # how long a call takes
SKEWS_S = (0.0, 0.1, 0.2)  # by which no two containers record a gap in the very same millisecond
LONG_S = 60.0  # of a run that is not short of time
USUAL: frozenset[Fault] = frozenset({"crash", "answer_lost", "freeze", "history_lost", "drop"})


def in_jumps(time_ms: int) -> Hashable:
    """A time, as exactly as it makes a difference: between which jumps it is."""
    return time_ms if time_ms <= LONG_AGO_MS else ("jumps", (time_ms - EPOCH_MS) // JUMP_MS)


@dataclass(frozen=True)
class Case:
    """One search. `script`: what is written, in order, at any time.

    `keeps`: how many entries the server still has after a loss of history, one choice each.
    `remaining_s`: of the two containers' invocations; the last run always has long.
    """

    name: str
    script: tuple[Entry, ...] = (insert(1), insert(2), insert(3))
    max_faults: int = 2
    faults: frozenset[Fault] = USUAL
    keeps: tuple[int, ...] = (0, 1)
    drop: Entry = INVALIDATE
    server_batch: int = 3
    remaining_s: float = LONG_S
    traits: Traits = KIND
    stream: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The deployment's settings, with one stream."""
        terms: dict[str, object] = {
            "name": STREAM,
            "start_at": "earliest",
            "on_history_lost": "earliest",
            "on_failure": "dead_letter",
        }
        stream = StreamSettings(**terms | dict(self.stream))  # type: ignore[arg-type]
        return Settings(table="state", reserve_s=RESERVE_S, lease_s=LEASE_S, streams=(stream,))

    def within(self, *, changes: int, faults: int) -> Case:
        """The same with fewer changes and faults."""
        return replace(self, script=self.script[:changes], max_faults=min(faults, self.max_faults))


ONE_BY_ONE = {"max_changes": 1, "checkpoint_interval_s": 0.0}
EACH_BATCH = {"max_changes": 3, "checkpoint_interval_s": 0.0}
AT_THE_END = {"max_changes": 3, "checkpoint_interval_s": 60.0}
TWO = (insert(1), insert(2))

FAILING: frozenset[Fault] = frozenset({"crash", "answer_lost", "freeze", "delivery_fails"})
LOSING: frozenset[Fault] = USUAL - {"freeze"}
REFUSED: frozenset[Fault] = frozenset({"crash", "answer_lost", "freeze", "invalidates_refused"})

OF_THE_OPERATION = frozenset({"operationType"})
LATE = Traits(closes="late_when_full", hides=OF_THE_OPERATION)
TELLS_NOTHING = Traits(closes="late", closing_tells=False, hides=OF_THE_OPERATION, loses_at="read")
NO_START_AFTER = Traits(start_after=False, hides=OF_THE_OPERATION | {"clusterTime"})

CASES = (
    Case("each batch stored", stream=EACH_BATCH),
    Case("a foreign write", (insert(1), IDLE, insert(2)), max_faults=1, stream=EACH_BATCH),
    Case(
        "two drops", (INVALIDATE, insert(1)), faults=LOSING, stream=AT_THE_END, traits=TELLS_NOTHING
    ),
    Case("each change stored", TWO, stream=ONE_BY_ONE),
    Case("stored at the end", TWO, stream=AT_THE_END),
    Case("from now on", TWO, stream=AT_THE_END | {"start_at": "now"}),
    Case("a hidden drop", TWO, stream=AT_THE_END, drop=HIDDEN_INVALIDATE),
    Case("a late close", TWO, stream=EACH_BATCH, server_batch=1, traits=LATE),
    Case("no startAfter", TWO, stream=EACH_BATCH, traits=NO_START_AFTER),
    Case("an invalidate refused", (INVALIDATE, insert(1)), faults=REFUSED, stream=EACH_BATCH),
    Case("foreign writes first", (IDLE, IDLE, insert(1)), max_faults=1, stream=EACH_BATCH),
    Case("a failing delivery", TWO, faults=FAILING, stream=EACH_BATCH | {"max_attempts": 1}),
    Case(  # behind a freeze nothing can be tried again
        "too late to try again",
        TWO,
        faults=FAILING,
        stream=EACH_BATCH | {"max_attempts": 2},
        remaining_s=JUMP_S + RESERVE_S + 0.3,
    ),
    Case(  # one entry takes longer to scan than a run may read
        "a scan that outlasts a run",
        (insert(1),),
        faults=frozenset({"crash", "answer_lost", "freeze"}),
        stream=EACH_BATCH,
        remaining_s=1.5,
        traits=Traits(entry_s=1.1),
    ),
)
