"""Makes schedules at random, and small ones of those that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from fakes import Traits
from simulation.schedule import (
    FailLetters,
    FailSink,
    FailStore,
    Finish,
    Freeze,
    Kill,
    Prune,
    RefuseInvalidates,
    Renew,
    Resume,
    Start,
    Step,
    Terms,
    Wait,
    What,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from simulation.schedule import Event, Schedule

MOSTLY_ONE = (0, 0, 0, 0, 1, 1, 2)
MAX_SKEW_MS = 1_000  # of each of two clocks, in either direction: 2 s apart

WHATS: tuple[What, ...] = get_args(What)
HARMLESS: tuple[What, ...] = ("ok", "split", "idle", "invalidate", "hidden_invalidate")

# How often each episode is drawn, and how.
EPISODES: list[tuple[int, Callable[[Random], Schedule]]] = [
    (8, lambda _: [Write("ok")]),
    (5, lambda random: [Write(random.choice(WHATS))]),
    (6, lambda random: [Start(random.choice(MOSTLY_ONE))]),
    (9, lambda random: [Step(random.choice(MOSTLY_ONE), random.randint(1, 25))]),
    (3, lambda random: [Finish(random.choice(MOSTLY_ONE))]),
    (2, lambda random: [Kill(random.choice(MOSTLY_ONE))]),
    (2, lambda random: [_freeze(random, random.choice(MOSTLY_ONE))]),
    (2, lambda random: _zombie(random, *random.sample([0, 1, 2], 2))),
    (1, lambda random: [Renew(random.choice(MOSTLY_ONE))]),
    (2, lambda random: [FailStore(random.choice(["refused", "answer_lost", "repeated"]))]),
    (1, lambda random: [FailSink(random.randint(1, 3))]),
    (1, lambda random: [FailLetters(random.choice(["refused", "answer_lost"]))]),
    (1, lambda random: [Wait(random.choice([1.0, 6.0, 12.0]))]),
    (1, lambda random: [Prune(random.randint(0, 4))]),
    (1, lambda random: [RefuseInvalidates(random.random() < 0.7)]),
    (1, lambda _: [Resume()]),
]
WEIGHTS = [weight for weight, _ in EPISODES]
DRAWS = [draw for _, draw in EPISODES]


def generated(random: Random) -> tuple[Schedule, Terms]:
    """A schedule of 10 to 60 episodes and its terms."""
    episodes = random.choices(DRAWS, WEIGHTS, k=random.randint(10, 60))
    return [event for draw in episodes for event in draw(random)], _terms(random)


def smallest(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """What is left of a failing `schedule` when nothing more can be left out of it."""
    size = len(schedule) // 2
    while size:
        for start in range(len(schedule) - size, -1, -size):
            less = schedule[:start] + schedule[start + size :]
            if fails(less):
                schedule = less
        size //= 2
    return schedule


def _freeze(random: Random, container: int) -> Event:
    seconds = random.choice([3.0, 5.5, 7.0, 8.5, 30.0])
    return Freeze(container, seconds, random.choice([True, False]))


def _zombie(random: Random, old: int, new: int) -> Schedule:
    """A container is frozen in mid-run, another takes the stream over, the first wakes up."""
    return [
        Write("ok"),
        Start(old),
        Step(old, random.randint(1, 12)),
        _freeze(random, old),
        Start(new),
        Step(new, random.randint(2, 12)),
        Step(old, random.randint(1, 12)),
    ]


def _terms(random: Random) -> Terms:
    choose: Callable[[list[Any]], Any] = random.choice
    return Terms(
        start_at=choose(["now", "earliest"]),
        on_failure=choose(["dead_letter", "dead_letter", "dead_letter", "halt"]),
        on_history_lost=choose(["halt", "now", "earliest"]),
        mode=choose(["drain", "drain", "linger"]),
        max_changes=choose([1, 2, 3, 4, 6]),
        server_batch=choose([1, 2, 4, 8]),
        max_age_s=choose([0.0, 0.0, 0.5]),
        checkpoint_interval_s=choose([0.0, 1.0]),
        max_attempts=choose([1, 2, 3]),
        keeper=choose([True, True, False]),
        read_ahead=choose([False, True]),
        skews_ms=tuple(random.randint(-MAX_SKEW_MS, MAX_SKEW_MS) for _ in range(3)),
        traits=_traits(random, choose),
    )


def _traits(random: Random, choose: Callable[[list[Any]], Any]) -> Traits:
    """A server's character. Where tokens have no time, silence ends a drain: it does not scan."""
    token_times = random.random() < 0.7
    return Traits(
        entry_s=choose([0.0, 0.0, 0.02, 0.1, 0.4]),
        scan_entries=choose([None, None, 1, 3]) if token_times else None,
        scans_on=choose([False, True]),
        empties=choose(["moved", "unmoved"]) if token_times else "moved",
        closes=choose(["at_once", "late_when_full", "late"]),
        closing_tells=choose([True, True, False]),
        start_after=choose([True, True, True, False]),
        token_times=token_times,
        loses_at=choose(["open", "read"]),
        hides=frozenset(choose([[], [], ["operationType"], ["operationType", "clusterTime"]])),
    )
