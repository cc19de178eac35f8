"""The right to read a stream, as its holder counts it (G4)."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from fakes import ManualClock, MemoryStore, StoreFault, slow
from tidemark.errors import LeaseLost, StoreUnavailable
from tidemark.lease import KEEPER_RENEWAL_SHARE, SKEW_MS, HeldLease, LeaseTerms
from tidemark.model import NO_ATTEMPTS, Acquired, NotAcquired, Position
from tidemark.model import Checkpoint as Stored
from tidemark.supervisor import WATCH_S

LEASE_MS = 10_000
FAR_MS = 10_000_000_000_000


class Bench:
    """A store, a clock, and leases of ten seconds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)

    def take(self, deadline_ms: int = FAR_MS) -> HeldLease:
        """The lease; fails where it is another's."""
        taken = self.try_to_take(deadline_ms)
        assert not isinstance(taken, NotAcquired)
        return taken[0]

    def try_to_take(self, deadline_ms: int = FAR_MS) -> tuple[HeldLease, Acquired] | NotAcquired:
        """The lease, or who holds it."""
        terms = LeaseTerms(LEASE_MS, deadline_ms)
        return HeldLease.take(self.store, self.clock, terms, "orders")

    @property
    def expires_in_ms(self) -> int:
        """How long the stored lease lasts from now."""
        return self.store.expires_at_ms("orders") - self.clock.time_ms()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def checkpoint(number: int) -> Stored:
    return Stored(Position(resume_token={"_data": str(number)}), "{}", "f")


def test_a_holder_stops_two_seconds_before_its_lease_ends(bench: Bench) -> None:
    """G4: whatever the clocks' skew up to 2 s."""
    held = bench.take()
    bench.clock.advance_s(7.999)
    assert held.is_ours()

    bench.clock.advance_s(0.001)

    assert not held.is_ours()
    with pytest.raises(LeaseLost, match="outlived"):
        held.require()


def test_the_right_is_counted_from_before_the_request(bench: Bench) -> None:
    """G4: a slow answer shortens it."""
    bench.store.inject(slow(5))
    held = bench.take()
    bench.clock.advance_s(2.999)
    assert held.is_ours()

    bench.clock.advance_s(0.001)

    assert not held.is_ours()


def test_a_container_that_thaws_looks_at_the_wall_clock_too(bench: Bench) -> None:
    """G4: its monotonic clock may have stood still meanwhile."""
    clock = bench.clock.container()
    terms = LeaseTerms(LEASE_MS, FAR_MS)
    taken = HeldLease.take(bench.store, clock, terms, "orders")
    assert not isinstance(taken, NotAcquired)
    clock.freeze_s(9, monotonic_stops=True)

    assert clock.monotonic_s() == 0
    assert not taken[0].is_ours()


def test_a_wall_clock_that_is_set_back_does_not_lengthen_the_right(bench: Bench) -> None:
    clock = bench.clock.container()
    taken = HeldLease.take(bench.store, clock, LeaseTerms(LEASE_MS, FAR_MS), "orders")
    assert not isinstance(taken, NotAcquired)
    bench.clock.advance_s(9)
    clock.skew_ms = -60_000

    assert not taken[0].is_ours()


def test_no_lease_outlives_its_invocation_by_more_than_the_skew(bench: Bench) -> None:
    deadline_ms = bench.clock.time_ms() + 4_000
    held = bench.take(deadline_ms)
    assert bench.store.expires_at_ms("orders") == deadline_ms + SKEW_MS

    bench.clock.advance_s(3)
    held.renew()

    assert bench.store.expires_at_ms("orders") == deadline_ms + SKEW_MS


def test_a_held_lease_is_not_taken_and_an_expired_one_is(bench: Bench) -> None:
    """G4: the fencing token rises with each taking."""
    first = bench.take()
    held = bench.try_to_take()
    assert isinstance(held, NotAcquired)
    assert held.owner == first.lease.owner

    bench.clock.advance_s(10)

    assert bench.take().lease.fencing_token == first.lease.fencing_token + 1


def test_a_former_holder_can_write_nothing(bench: Bench) -> None:
    """G4: neither progress nor a renewal nor a release."""
    former = bench.take()
    bench.clock.advance_s(10)
    bench.take()
    item = dict(bench.store.items["orders"])

    for write in (
        former.renew,
        lambda: former.save(checkpoint(1), NO_ATTEMPTS),
        lambda: former.release(checkpoint(1), NO_ATTEMPTS),
        lambda: former.halt(checkpoint(1), NO_ATTEMPTS, reason="x"),
    ):
        with pytest.raises(LeaseLost):
            write()

    assert bench.store.items["orders"] == item
    assert not former.is_ours()
    assert former.is_over


def test_every_write_extends_the_lease(bench: Bench) -> None:
    held = bench.take()
    bench.clock.advance_s(7)
    held.save(checkpoint(1), NO_ATTEMPTS)
    bench.clock.advance_s(7)

    assert held.is_ours()
    assert bench.expires_in_ms == 3_000


def test_a_write_without_an_answer_extends_nothing(bench: Bench) -> None:
    """The holder counts only what was confirmed."""
    held = bench.take()
    bench.clock.advance_s(7)
    bench.store.inject(StoreFault.ANSWER_LOST)
    with pytest.raises(StoreUnavailable):
        held.renew()
    bench.clock.advance_s(1)

    assert not held.is_ours()


def test_a_renewal_never_follows_a_release(bench: Bench) -> None:
    held = bench.take()
    held.release(None, NO_ATTEMPTS)
    held.renew()

    assert bench.store.expires_at_ms("orders") == 0
    assert bench.store.requests == ["acquire", "release"]


def test_a_renewal_waits_for_no_write_that_is_under_way(bench: Bench) -> None:
    """The write extends the lease by itself; the keeper must not queue behind it."""
    held = bench.take()
    renewed: list[str] = []

    def renew_in_another_thread(_: float) -> None:
        keeper = threading.Thread(target=held.renew)
        keeper.start()
        keeper.join()
        renewed.extend(bench.store.requests)

    bench.clock.on_sleep = renew_in_another_thread
    bench.store.inject(slow(1), on="save")
    held.save(checkpoint(1), NO_ATTEMPTS)

    assert renewed == ["acquire", "save"]


def test_renewal_is_due_at_half_the_right_and_only_where_it_lengthens(bench: Bench) -> None:
    held = bench.take()
    bench.clock.advance_s(3.999)
    assert not held.renewal_due()
    bench.clock.advance_s(0.001)
    assert held.renewal_due()
    assert not held.renewal_due(0.65)

    held.renew()

    assert not held.renewal_due()


def test_the_shortest_lease_is_renewed_while_its_holder_still_has_the_right(bench: Bench) -> None:
    """A delivery longer than a lease of 5 s loses none of it: its keeper looks each WATCH_S."""
    terms = LeaseTerms(lease_ms=5_000, deadline_ms=FAR_MS)
    held, _ = cast(
        "tuple[HeldLease, Acquired]", HeldLease.take(bench.store, bench.clock, terms, "s")
    )
    while not held.renewal_due(KEEPER_RENEWAL_SHARE):
        bench.clock.advance_s(0.1)

    bench.clock.advance_s(WATCH_S)

    assert held.is_ours()


def test_renewal_is_not_due_where_the_invocations_end_is_the_limit(bench: Bench) -> None:
    held = bench.take(bench.clock.time_ms() + 6_000)
    bench.clock.advance_s(5)

    assert not held.renewal_due()


def test_a_release_keeps_the_owner_and_frees_the_lease(bench: Bench) -> None:
    """An SDK's repeat of the release must succeed."""
    bench.store.inject(StoreFault.REPEATED, on="release")
    held = bench.take()
    held.release(checkpoint(1), NO_ATTEMPTS)

    assert bench.store.items["orders"]["lease_owner"] == {"S": held.lease.owner}
    assert bench.take().lease.fencing_token == 2


def test_owners_are_fresh_each_time(bench: Bench) -> None:
    """Lambda repeats request ids; two runs must not share a lease by it."""
    first = bench.take()
    bench.clock.advance_s(10)

    assert bench.take().lease.owner != first.lease.owner


def test_a_save_never_follows_a_release(bench: Bench) -> None:
    """G4: the supervisor may record a run at the moment of its end."""
    held = bench.take()
    held.release(checkpoint(1), NO_ATTEMPTS)

    held.save(checkpoint(0), NO_ATTEMPTS)

    assert bench.store.requests == ["acquire", "release"]
    assert bench.store.stored("orders").checkpoint == checkpoint(1)
    assert bench.store.expires_at_ms("orders") == 0
