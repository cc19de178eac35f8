"""A schedule: what happens to a stream, in order. Its `repr` is Python that can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fakes.traits import KIND, Traits

# What becomes of a written change, or what else the oplog holds there.
What = Literal[
    "ok",
    "flaky",  # the sink fails with it, twice
    "poison",  # the sink fails with it, always, and does not say with which change
    "named",  # the sink fails with it, always, and names it
    "killer",  # delivering it kills the container
    "hang",  # delivering it never ends
    "split",
    "undecodable",
    "idle",
    "invalidate",
    "hidden_invalidate",
    "unavailable",
]
HARMFUL = ("poison", "named", "killer", "hang")


@dataclass(frozen=True)
class Terms:
    """What holds for a whole schedule. `skews_ms`: each container's clock, at most 2 s apart."""

    start_at: Literal["now", "earliest"] = "earliest"
    on_failure: Literal["dead_letter", "halt"] = "dead_letter"
    on_history_lost: Literal["halt", "now", "earliest"] = "earliest"
    mode: Literal["drain", "linger"] = "drain"
    max_changes: int = 3
    server_batch: int = 5
    max_age_s: float = 0.0
    checkpoint_interval_s: float = 0.0
    max_attempts: int = 2
    keeper: bool = True
    read_ahead: bool = False
    skews_ms: tuple[int, ...] = (0, 0, 0)
    traits: Traits = KIND


@dataclass(frozen=True)
class Write:
    """Something is written to the oplog."""

    what: What = "ok"


@dataclass(frozen=True)
class Start:
    """The scheduler invokes a container: it waits before its first call; a busy one goes on."""

    container: int


@dataclass(frozen=True)
class Step:
    """A container goes on by `points` of its points: before and behind each call of a port."""

    container: int
    points: int


@dataclass(frozen=True)
class Finish:
    """A container goes on to its run's end."""

    container: int


@dataclass(frozen=True)
class Kill:
    """A container dies where it is: before a call was made, or before its answer came."""

    container: int


@dataclass(frozen=True)
class Freeze:
    """A container stands still for `seconds` while the world goes on."""

    container: int
    seconds: float
    monotonic_stops: bool


@dataclass(frozen=True)
class Renew:
    """A container's keeper renews its lease, due or not."""

    container: int


@dataclass(frozen=True)
class FailStore:
    """The next request to the store fails in this manner."""

    how: Literal["refused", "answer_lost", "repeated"]


@dataclass(frozen=True)
class FailSink:
    """The next `times` deliveries fail."""

    times: int


@dataclass(frozen=True)
class FailLetters:
    """The next dead letter is not stored, or is stored and its answer lost."""

    how: Literal["refused", "answer_lost"]


@dataclass(frozen=True)
class Wait:
    """Time passes for everybody."""

    seconds: float


@dataclass(frozen=True)
class Prune:
    """The server forgets all but the last `keep` entries of its oplog."""

    keep: int


@dataclass(frozen=True)
class RefuseInvalidates:
    """The server opens no stream at an invalidate's own token from now on, or does again."""

    refuses: bool


@dataclass(frozen=True)
class Resume:
    """An operator makes a halted stream go again."""


Event: TypeAlias = (
    Write
    | Start
    | Step
    | Finish
    | Kill
    | Freeze
    | Renew
    | FailStore
    | FailSink
    | FailLetters
    | Wait
    | Prune
    | RefuseInvalidates
    | Resume
)
Schedule: TypeAlias = list[Event]
