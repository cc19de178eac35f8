"""What a search holds fixed: the settings, what is written, and which faults may happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from fakes import HIDDEN_INVALIDATE, IDLE, INVALIDATE, insert
from tidemark.settings import Settings, StreamSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakes import Entry

Fault: TypeAlias = Literal[
    "crash", "answer_lost", "freeze", "history_lost", "drop", "delivery_fails"
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

STREAM = "orders"
EPOCH_MS = 1_800_000_000_000
LEASE_S = 8.0
SKEW_S = 2.0  # how far apart the engine allows two containers' clocks to be
JUMP_S = LEASE_S + 2 * SKEW_S  # whatever lease was written before is over after it, on any clock
RESERVE_S = 2.0


@dataclass(frozen=True)
class Case:
    """One search. `script`: what is written, in order, at any time.

    `keeps`: how many entries the server still has after a loss of history, one choice each.
    """

    name: str
    script: tuple[Entry, ...] = (insert(1), insert(2), insert(3))
    max_faults: int = 2
    faults: frozenset[Fault] = frozenset(FAULTS) - {"delivery_fails"}
    keeps: tuple[int, ...] = (0, 1)
    drop: Entry = INVALIDATE
    server_batch: int = 3
    remaining_s: float = 60.0
    stream: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The deployment's settings, with one stream."""
        terms: dict[str, object] = {
            "name": STREAM,
            "start_at": "earliest",
            "on_history_lost": "earliest",
            "on_failure": "dead_letter",
            "max_attempts": 1,  # a back-off would take longer than two clocks may be apart
        }
        stream = StreamSettings(**terms | dict(self.stream))  # type: ignore[arg-type]
        return Settings(table="state", reserve_s=RESERVE_S, lease_s=LEASE_S, streams=(stream,))

    def within(self, *, changes: int, faults: int) -> Case:
        """The same with fewer changes and faults."""
        return replace(self, script=self.script[:changes], max_faults=faults)


ONE_BY_ONE = {"max_changes": 1, "checkpoint_interval_s": 0.0}
ALL_AT_ONCE = {"max_changes": 3, "checkpoint_interval_s": 60.0}

CASES = (
    Case("each change stored", stream=ONE_BY_ONE, server_batch=1),
    Case("each batch stored", stream={**ALL_AT_ONCE, "checkpoint_interval_s": 0.0}),
    Case("stored at the end", stream=ALL_AT_ONCE),
    Case(
        "from now on",
        stream={**ALL_AT_ONCE, "start_at": "now"},
        faults=frozenset({"crash", "answer_lost", "freeze", "history_lost"}),
    ),
    Case(
        "a hidden drop",
        stream=ALL_AT_ONCE,
        drop=HIDDEN_INVALIDATE,
        faults=frozenset({"crash", "answer_lost", "freeze", "drop"}),
    ),
    Case(
        "foreign writes between",
        script=(insert(1), IDLE, insert(2), insert(3)),
        stream={**ALL_AT_ONCE, "checkpoint_interval_s": 0.0},
        faults=frozenset({"crash", "answer_lost", "freeze", "history_lost"}),
    ),
    Case(
        "failing deliveries",
        stream={**ALL_AT_ONCE, "checkpoint_interval_s": 0.0},
        faults=frozenset({"crash", "answer_lost", "freeze", "delivery_fails"}),
    ),
)
