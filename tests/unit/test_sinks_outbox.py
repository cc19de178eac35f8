"""What a thread is given to do, while others have something under way."""

from __future__ import annotations

from typing import Any

from tidemark.claimcheck import Payload
from tidemark.sinks.outbox import FULL_ENOUGH, Entry, Outbox
from tidemark.sinks.target import Failure, Limits

PAYLOAD = Payload("key", b"{}", "0")
THROTTLED = Failure("Throttled")


def entry(place: int, payload: Payload | None = None, group: str = "") -> Entry:
    return Entry(place, group, 100, {}, payload)


def outbox_of(*entries: Entry, per_request: int = 10, count: int | None = None) -> Outbox:
    limits = Limits(per_request, 100_000, 1_000)
    keeps_order = any(each.group for each in entries)
    return Outbox(count or len(entries), entries, limits, keeps_order=keeps_order)


def places(taken: Any) -> list[int]:
    return [each.place for each in taken.entries]


def test_one_request_is_the_first_however_many_threads_ask() -> None:
    """G5: the first alone may begin with the time of an ordinary answer."""
    outbox = outbox_of(*map(entry, range(3)), per_request=1)
    assert [outbox.take().is_first for _ in range(3)] == [True, False, False]


def test_the_first_is_first_again_where_nothing_was_sent_of_it() -> None:
    """An event bus was asked for instead."""
    outbox = outbox_of(*map(entry, range(3)))
    asked = outbox.take()
    outbox.give_back(asked)
    again = outbox.take()
    assert (places(again), again.is_first, again.is_early) == ([0, 1, 2], True, False)


def test_a_payload_put_aside_is_no_request() -> None:
    outbox = outbox_of(entry(0, PAYLOAD), entry(1))
    put = outbox.take()
    put.entries[0].payload = None
    outbox.give_back(put)
    request = outbox.take()
    assert (places(request), request.is_first) == ([0, 1], True)


def test_what_is_early_is_what_is_taken_before_anything_came_back() -> None:
    outbox = outbox_of(*map(entry, range(3)), per_request=1)
    first, second = outbox.take(), outbox.take()
    outbox.put_back(first.entries, [THROTTLED])
    assert [each.is_early for each in (first, second, outbox.take())] == [True, True, False]


def test_a_payload_comes_before_the_messages_that_it_may_join() -> None:
    outbox = outbox_of(entry(0), entry(1, PAYLOAD), entry(2))
    assert places(outbox.take()) == [1]
    assert places(outbox.take()) == [0, 2]


def test_a_request_that_is_full_enough_waits_for_no_payload() -> None:
    entries = [*map(entry, range(FULL_ENOUGH)), entry(FULL_ENOUGH, PAYLOAD)]
    assert len(outbox_of(*entries, per_request=500).take().entries) == FULL_ENOUGH


def test_in_a_hurry_messages_go_without_those_whose_payloads_wait() -> None:
    """G2: but none of a group overtakes another."""
    entries = [
        entry(0, group="a"),
        entry(1, PAYLOAD, "b"),
        entry(2, group="b"),
        entry(3, group="c"),
    ]
    outbox = outbox_of(*entries)
    outbox.hurry()
    request = outbox.take()
    assert places(request) == [0, 3]
    outbox.confirm(request.entries)
    assert places(outbox.take()) == []
    assert (outbox.delivered, outbox.ahead) == (1, [3])


def test_a_hurry_sends_what_was_put_aside_already() -> None:
    outbox = outbox_of(entry(0, PAYLOAD), entry(1, PAYLOAD))
    put = outbox.take()
    put.entries[0].payload = None
    outbox.give_back(put)
    outbox.hurry()
    assert places(outbox.take()) == [0]


def test_places_without_an_entry_are_delivered_already() -> None:
    outbox = outbox_of(entry(1), count=4)
    assert (outbox.delivered, outbox.ahead) == (1, [2, 3])
    outbox.confirm(outbox.take().entries)
    assert (outbox.delivered, outbox.ahead) == (4, [])
    assert places(outbox.take()) == []
