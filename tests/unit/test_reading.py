"""What a run's reads prove: by time where tokens tell it, by silence where they do not (G12)."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import ManualClock, ScriptedSource, Traits, insert
from tidemark.model import Position, Read, ReadEnd, Token
from tidemark.reading import IDLE_S, Reading
from tidemark.settings import StreamSettings

AWAIT_S = 0.25
CHANGE: dict[str, Any] = {"operationType": "insert"}


class Bench:
    """A run that has opened the stream after the first entry of three, a second apart."""

    def __init__(self, *, is_sharded: bool = False, traits: Traits | None = None, **given: Any):
        self.clock = ManualClock()
        self.source = ScriptedSource(self.clock, traits=traits or Traits())
        for key in range(3):
            self.clock.advance_s(1)
            self.source.write(insert(key))
        self.stream = StreamSettings(name="orders", **given)
        self.reading = Reading(self.stream, self.source, AWAIT_S)
        self.is_sharded = is_sharded
        self.now_s = 100.0
        self.open(1)

    def open(self, index: int, *, tells_time: bool = True) -> Token | None:
        """Open the stream after so many entries; the opening's token."""
        position = Position(resume_token=self.source.token_at(index))
        reader = self.source.open(self.stream, position, timeout_s=5, batch_size=None)
        reader.opened_at = reader.opened_at if tells_time else None
        self.reading.opened(reader, self.now_s, is_sharded=self.is_sharded)
        return reader.opening_token

    def empty_at(self, index: int, *, after_s: float = 0.0, took_s: float = 0.0) -> bool:
        """Whether an empty answer with the token of that place ends a drain."""
        return self.empty_with(self.source.token_at(index), after_s=after_s, took_s=took_s)

    def empty_with(self, token: Token | None, *, after_s: float = 0.0, took_s: float = 0.0) -> bool:
        """The same, with a token of one's own."""
        return self.read(Read([], ReadEnd.EMPTY, token), after_s=after_s, took_s=took_s)

    def read(self, read: Read, *, after_s: float = 0.0, took_s: float = 0.0) -> bool:
        """Whether a read ends a drain, so long after the one before."""
        self.now_s += after_s
        return self.reading.is_caught_up(read, took_s=took_s, now_s=self.now_s)


@pytest.mark.parametrize(("index", "is_over"), [(1, False), (2, False), (3, True)])
def test_an_empty_answer_ends_a_drain_at_the_time_that_the_run_began_with(
    index: int, is_over: bool
) -> None:
    """G12: at once: equality counts, and an idle run costs no second answer."""
    bench = Bench()
    assert bench.empty_at(index) is is_over
    assert bench.reading.has_reached_end is is_over


def test_no_silence_ends_a_drain_before_that_time() -> None:
    """G12: empties while changes wait."""
    bench = Bench()
    assert not any(bench.empty_at(2, after_s=60) for _ in range(40))


@pytest.mark.parametrize("end", [ReadEnd.FULL, ReadEnd.DRAINED, ReadEnd.INVALIDATED])
def test_changes_prove_nothing_however_late_they_are(end: ReadEnd) -> None:
    """G12: an event's token is no answer's that has scanned to there."""
    bench = Bench()
    assert not bench.read(Read([CHANGE], end, bench.source.token_at(3)), after_s=60)
    assert not bench.reading.has_reached_end


def test_what_is_written_meanwhile_is_another_runs() -> None:
    """G12: a drain ends, however busy the server is."""
    bench = Bench()
    bench.source.write(insert("later"), insert("later still"))
    assert bench.empty_at(3)


def test_the_first_opening_of_the_run_counts() -> None:
    """G12: a stream that is opened again after a fault or a drop is no new run."""
    bench = Bench()
    bench.clock.advance_s(60)
    bench.source.write(insert("later"))
    bench.open(1)
    assert bench.empty_at(3)


def test_behind_mongos_the_openings_own_token_proves_nothing() -> None:
    """G12: its shards may hold back changes of that very time."""
    bench = Bench(is_sharded=True)
    opening = bench.open(3)
    assert not bench.empty_with(opening, after_s=60)
    assert bench.empty_with(bench.source.token_at(3, "another of that time"))


def test_on_a_replica_set_the_openings_own_token_ends_an_idle_drain() -> None:
    bench = Bench()
    assert bench.empty_with(bench.open(3))


def test_behind_mongos_a_token_that_has_passed_that_time_counts_without_a_move() -> None:
    bench = Bench(is_sharded=True)
    bench.source.write(insert("later"))
    assert bench.empty_with(bench.open(4))


# ----------------------------------------------------------------- where tokens have no known form

UNKNOWN = Traits(token_times=False)


def test_where_forms_are_unknown_silence_ends_a_drain() -> None:
    bench = Bench(traits=UNKNOWN)
    assert not bench.empty_at(3, after_s=IDLE_S / 2)
    assert bench.empty_at(3, after_s=IDLE_S / 2)


def test_where_forms_are_unknown_a_change_breaks_the_silence() -> None:
    bench = Bench(traits=UNKNOWN)
    bench.read(Read([CHANGE], ReadEnd.DRAINED), after_s=IDLE_S)
    assert not bench.empty_at(3, after_s=IDLE_S / 2)
    assert bench.empty_at(3, after_s=IDLE_S)


def test_an_opening_in_mid_run_does_not_break_the_silence() -> None:
    bench = Bench(traits=UNKNOWN)
    bench.now_s += IDLE_S
    bench.open(1)
    assert bench.empty_at(3)


def test_a_server_that_tells_no_time_is_judged_by_its_silence() -> None:
    bench = Bench()
    bench.reading = Reading(bench.stream, bench.source, AWAIT_S)
    bench.open(1, tells_time=False)
    assert not bench.empty_at(3)
    assert bench.empty_at(1, after_s=IDLE_S)


def test_an_empty_answer_without_a_token_is_silence() -> None:
    """Of a server without post-batch tokens."""
    bench = Bench()
    assert not bench.empty_with(None)
    assert bench.empty_with(None, after_s=IDLE_S)


# -------------------------------------------------------------------------------------- idle_s


def test_idle_s_that_is_set_governs_where_forms_are_unknown() -> None:
    bench = Bench(traits=UNKNOWN, idle_s=2.0)
    assert not bench.empty_at(3, after_s=1.9)
    assert bench.empty_at(3, after_s=0.1)
    assert Bench(traits=UNKNOWN, idle_s=0.02).empty_at(3, after_s=0.03)


def test_idle_s_that_is_set_is_a_further_minimum_elsewhere() -> None:
    """It never ends a drain earlier."""
    bench = Bench(idle_s=2.0)
    assert not bench.empty_at(3, after_s=1.9)
    assert bench.empty_at(3, after_s=0.1)
    assert not Bench(idle_s=0.02).empty_at(2, after_s=60)


# -------------------------------------------------------------------------------------- scan_s

NOTHING = Read([], ReadEnd.DRAINED)


@pytest.mark.parametrize(
    ("read", "took_s", "scan_s"),
    [
        (NOTHING, 3.0, 3.0),
        (NOTHING, 0.1, 0.1),
        (Read([], ReadEnd.GIVEN_UP), 40.0, 40.0),
        (Read([CHANGE], ReadEnd.DRAINED), AWAIT_S, 0.0),  # it waited at the end
        (Read([CHANGE], ReadEnd.DRAINED), 8.0, 8.0),
        (Read([CHANGE], ReadEnd.FULL), 0.01, 0.0),
    ],
)
def test_a_scan_is_what_took_longer_than_to_wait(read: Read, took_s: float, scan_s: float) -> None:
    """G11: or brought nothing, not even an end."""
    bench = Bench()
    bench.read(read, took_s=took_s)
    assert bench.reading.scan_s == scan_s


def test_an_empty_answer_is_a_scan_only_before_the_end() -> None:
    """G11: the wait at the oplog's end is none."""
    bench = Bench()
    bench.empty_at(2, took_s=5.0)
    bench.empty_at(3, took_s=7.0)
    assert bench.reading.scan_s == 5.0
