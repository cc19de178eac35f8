"""Deliberate breakages of the order of effects: the invariants must see each of them.

A mutation replaces one method of the engine, or of the world below it, by one that errs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fakes import Kind, MemoryStore
from fakes.source import ScriptedReader
from simulation.company import Suspect, play_company
from simulation.generate import generated
from simulation.replay import replay
from tidemark import account
from tidemark.lag import Known
from tidemark.lease import HeldLease
from tidemark.model import NO_ATTEMPTS
from tidemark.progress import Progress
from tidemark.reading import Reading
from tidemark.recovery import Recovery
from tidemark.run import Run
from tidemark.settle import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def play_seed(seed: int) -> object:
    """The schedule of one seed. Raises Violated."""
    return replay(*generated(Random(seed)))


@dataclass(frozen=True)
class Mutation:
    """`method` of `owner` errs: `wrong` is called in its place, with the right one first.

    `play` plays what shows it, of a seed.
    """

    name: str
    owner: Any  # a class, or a module
    method: str
    wrong: Callable[..., Any]
    play: Callable[[int], object] = play_seed

    def applied(self) -> AbstractContextManager[object]:
        """The engine with this mistake."""
        right, wrong = getattr(self.owner, self.method), self.wrong

        def mutated(*args: Any, **named: Any) -> Any:
            return wrong(right, *args, **named)

        return patch.object(self.owner, self.method, mutated)


def _checkpoint_first(right: Any, settlement: Any, changes: Any) -> Any:
    settlement._progress.delivered(changes)
    settlement._progress.save()
    return right(settlement, changes)


def _token_past_the_batch(right: Any, reader: Any, *args: Any) -> Any:
    return replace(right(reader, *args), resume_token=reader._source.token_at(reader.scanned))


def _no_token(right: Any, reader: Any, changes: Any) -> Any:
    return replace(right(reader, changes), resume_token=None)


def _token_inside_a_split(right: Any, reader: Any, timeout_s: float) -> Any:
    entry = reader._source.entry_at(reader.scanned)
    if entry is None or entry.kind is not Kind.FRAGMENT:
        return right(reader, timeout_s)
    reader.scanned += 1
    return []


def _true(_right: Any, *_args: Any) -> bool:
    return True


def _nothing(_right: Any, *_args: Any) -> None:
    return None


def _release_alone(_right: Any, progress: Any) -> None:
    progress._held.release(None, progress.attempts)


def _lease_from_the_answer(
    _right: Any, held: Any, _sent_s: float, _sent_ms: int, expiry: int
) -> None:
    now_s, now_ms = held._clock.monotonic_s(), held._clock.time_ms()
    held._extended_at_ms, held._expires_at_ms = now_ms, expiry
    held._ours_until_ms = now_ms + held._terms.lease_ms
    held._ours_until_s = now_s + held._terms.lease_ms / 1000


def _monotonic_alone(right: Any, held: Any, *args: Any) -> None:
    right(held, *args)
    held._ours_until_ms = float("inf")


def _pass_first(right: Any, settlement: Any, change: Any, error: Any) -> None:
    settlement._progress.delivered([change])
    settlement._progress.save()
    right(settlement, change, error)


def _skip_unrecorded(_right: Any, progress: Any, checkpoint: Any, _gap: Any) -> None:
    progress.begin(checkpoint)


def _forget_attempts(right: Any, held: Any, checkpoint: Any, _attempts: Any) -> None:
    right(held, checkpoint, NO_ATTEMPTS)


def _renew_released(_right: Any, held: Any) -> None:
    held._write(lambda expiry: held._store.renew(held.lease, expires_at_ms=expiry))


def _begin_unstored(_right: Any, progress: Any, checkpoint: Any) -> None:
    progress.latest = checkpoint


def _failure_passed_over(right: Any, settlement: Any, rest: Any, *failure: Any) -> Any:
    settlement._progress.delivered(rest[:1])
    return right(settlement, rest, *failure)


def _invalidate_taken_for_quiet(right: Any, run: Any, read: Any, *rest: Any) -> None:
    right(run, replace(read, end="empty"), *rest)


def _two_empties(_right: Any, reading: Any, read: Any, **_times: float) -> bool:
    reading.empties = 1 + getattr(reading, "empties", 0) if read.end == "empty" else 0
    return bool(reading.empties >= 2)


def _search_from_here(_right: Any, recovery: Any) -> Any:
    return recovery._progress.position


def _one_second(right: Any, run: Any) -> float:
    return min(1.0, float(right(run)))


def _forget_the_invalidate(_right: Any, progress: Any, token: Any) -> None:
    progress._move(token, behind_invalidate=False, before=None)
    progress._trail.clear()


def _lag_of_the_last_change(
    _right: Any, _time: Any, observed: Any, *_rest: Any, **_named: Any
) -> Any:
    return Known(0 if observed else None, None if observed else "unknown")


def _leave_the_scan(_right: Any, reader: Any, **_timeout: float) -> bool:
    reader._source.open_readers -= 1
    return True


MUTATIONS = [
    Mutation("checkpoint before deliver", Settlement, "_attempt", _checkpoint_first),
    Mutation("token past the batch", ScriptedReader, "_take", _token_past_the_batch),
    Mutation("token inside a split event", ScriptedReader, "_next_answer", _token_inside_a_split),
    Mutation("empty read's token not stored", ScriptedReader, "_ended", _no_token),
    Mutation("first position not stored", Progress, "begin", _begin_unstored),
    Mutation("release without checkpoint", Progress, "release", _release_alone),
    Mutation("gap without record", Progress, "skip", _skip_unrecorded),
    Mutation("no condition on the fencing token", MemoryStore, "_is_holder", _true),
    Mutation("acquire ignores the lease", MemoryStore, "_may_acquire", _true),
    Mutation("deliver without a look at the lease", HeldLease, "require", _nothing),
    Mutation("lease counted from the answer", HeldLease, "_extend", _lease_from_the_answer),
    Mutation("lease by the monotonic clock alone", HeldLease, "_extend", _monotonic_alone),
    Mutation("renewal after release", HeldLease, "renew", _renew_released),
    Mutation("attempts not stored", HeldLease, "save", _forget_attempts),
    Mutation("poison passed before its dead letter", Settlement, "_set_aside", _pass_first),
    Mutation("failure passed over", Settlement, "_after_failure", _failure_passed_over),
    Mutation("invalidate taken for quiet", Run, "_checkpoint", _invalidate_taken_for_quiet),
    Mutation("two empties end a drain", Reading, "is_caught_up", _two_empties),
    Mutation(
        "search the invalidate from the position", Recovery, "_where_to_search", _search_from_here
    ),
    Mutation("a fixed read timeout", Run, "_read_timeout_s", _one_second),
    Mutation("moved_to forgets the invalidate", Progress, "moved_to", _forget_the_invalidate),
    Mutation("no lease check before a read", Run, "_require_lease", _nothing),
    Mutation("lag 0 whatever was read", account, "lag_ms", _lag_of_the_last_change),
    Mutation("a read given up leaves its scan", ScriptedReader, "close", _leave_the_scan),
    Mutation("one_suspect not shared", Suspect, "acquire", _true, play=play_company),
]
