"""However entries fail: nothing is lost, and what keeps an order keeps it per document."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sink_kinds import (
    IN_ORDER,
    KINDS,
    Bucket,
    Clock,
    Fate,
    Fates,
    Faulty,
    Memory,
    batch_of,
    change,
    first_places,
    ids,
    sink_on,
    sink_settings,
)
from tidemark.errors import RetryableError
from tidemark.model import change_id

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60, database=None)
PASSING = [Fate.TAKEN, Fate.THROTTLED, Fate.MISJUDGED, Fate.UNANSWERED]
KEYS = st.lists(st.integers(0, 6), min_size=1, max_size=60)
# In runs: long enough for an entry to fail until the sink gives it up for this delivery.
RUNS = st.lists(st.tuples(st.sampled_from(PASSING), st.integers(1, 60)), max_size=12)
LARGE = st.sets(st.integers(0, 59), max_size=20)
TIMES = st.sampled_from([4, 8, 30, 1e9])
FATES = RUNS.map(lambda runs: [fate for fate, length in runs for _ in range(length)])


@pytest.mark.parametrize("kind", KINDS)
@given(keys=KEYS, fates=FATES, large=LARGE, deadline_s=TIMES, concurrency=st.sampled_from([1, 4]))
@REPEATABLE
def test_no_change_is_lost_and_each_documents_order_is_kept(
    kind: str,
    keys: list[int],
    fates: list[Fate],
    large: set[int],
    deadline_s: float,
    concurrency: int,
) -> None:
    """G1, G2: whatever a service does to the entries of its requests, with claims among them."""
    changes = [
        change(number, key, fullDocument={"text": "x" * 2_000 * (number in large)})
        for number, key in enumerate(keys)
    ]
    client, clock = Faulty(Memory(), Fates(fates)), Clock()
    settings_ = sink_settings(kind, concurrency=concurrency, max_message_bytes=1_500)
    sink = sink_on(client, settings_, clock=clock, s3=Bucket(clock=clock, put_s=0.2))
    rest = batch_of(changes)
    while rest:
        outcome = sink.deliver(rest, deadline_s=clock.now_s + deadline_s)
        assert outcome.error is None or isinstance(outcome.error, RetryableError)
        taken = set(ids(client.taken))
        assert {change_id(each) for each in rest[: outcome.delivered]} <= taken
        rest = rest[outcome.delivered :]
    places = first_places(ids(client.taken))
    assert len(places) == len(changes)
    if kind in IN_ORDER:
        for key in set(keys):
            of_key = [places[change_id(each)] for each in changes if key_of(each) == key]
            assert of_key == sorted(of_key)


def key_of(each: dict[str, object]) -> object:
    key = each["documentKey"]
    assert isinstance(key, dict)
    return key["_id"]


@pytest.mark.parametrize("kind", IN_ORDER)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_request_holds_one_change_of_a_document(kind: str, concurrency: int) -> None:
    """G2: a service may take the second of a request and refuse the first."""
    client = Faulty(Memory())
    changes = [change(number, number % 3) for number in range(12)]
    sink = sink_on(client, sink_settings(kind, concurrency=concurrency))
    assert sink.deliver(batch_of(changes), deadline_s=1e9).delivered == 12
    keys = {change_id(each): key_of(each) for each in changes}
    for request in client.requests:
        of_request = [keys[name] for name in ids(request)]
        assert len(of_request) == len(set(of_request))


@pytest.mark.parametrize("kind", IN_ORDER)
def test_changes_without_a_key_keep_their_order_among_themselves(kind: str) -> None:
    client = Faulty(Memory(), Fates([Fate.THROTTLED, Fate.TAKEN] * 6))
    drops = [change(number, operationType="drop", documentKey=None) for number in range(6)]
    sink_on(client, sink_settings(kind)).deliver(batch_of(drops), deadline_s=1e9)
    places = first_places(ids(client.taken))
    in_order = [places[change_id(each)] for each in drops]
    assert all(one < next_one for one, next_one in pairwise(in_order))
