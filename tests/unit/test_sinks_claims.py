"""Bodies over a target's limit: how they are put aside, and what a failing bucket does to them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from sink_kinds import (
    KINDS,
    PER_REQUEST,
    Bucket,
    Clock,
    Faulty,
    Memory,
    batch_of,
    change,
    client_error,
    ids,
    sink_on,
    sink_settings,
)
from tidemark.consumer import read_body
from tidemark.errors import DeliveryFailed, SinkRefused
from tidemark.model import change_id
from tidemark.ports import Outcome
from tidemark.sinks.outbox import FULL_ENOUGH

LIMIT = 2_000


def large(number: int) -> dict[str, Any]:
    return change(number, fullDocument={"_id": number, "text": "x" * LIMIT})


def deliver(
    bucket: Bucket,
    batch: list[dict[str, Any]],
    *,
    kind: str = "sqs",
    client: Faulty | None = None,
    deadline_s: float = 99,
    clock: Clock | None = None,
    **given: Any,
) -> tuple[Outcome, Faulty]:
    client = client or Faulty(Memory())
    settings = sink_settings(kind, max_message_bytes=LIMIT, **given)
    sink = sink_on(client, settings, s3=bucket, clock=clock)
    return sink.deliver(batch_of(batch), deadline_s=deadline_s), client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_large_changes_travel_in_full_requests_too(kind: str, concurrency: int) -> None:
    """Each body is put aside once; then its message is one like any other."""
    bucket, batch = Bucket(), [large(n) if n % 2 else change(n) for n in range(40)]
    outcome, client = deliver(bucket, batch, kind=kind, concurrency=concurrency)
    assert outcome == Outcome(40)
    assert sorted(ids(client.taken)) == sorted(map(change_id, batch))
    assert (bucket.puts, len(bucket.objects)) == (20, 20)
    assert len(client.requests) <= 40 / min(FULL_ENOUGH, PER_REQUEST[kind]) + concurrency


@pytest.mark.parametrize("kind", ["sqs-fifo", "kinesis"])
def test_the_order_of_a_document_holds_while_bodies_are_put_aside(kind: str) -> None:
    """G2."""
    batch = [change(n, n % 3, fullDocument={"text": "x" * LIMIT * (n % 2)}) for n in range(30)]
    outcome, client = deliver(Bucket(), batch, kind=kind)
    assert outcome == Outcome(30)
    sent = ids(client.taken)
    for key in range(3):
        of_key = [
            sent.index(change_id(each)) for each in batch if each["documentKey"]["_id"] == key
        ]
        assert of_key == sorted(of_key)


def test_bodies_are_put_aside_in_parallel() -> None:
    """As many at once as `concurrency` says, though one request holds all their messages."""
    together = threading.Barrier(3, timeout=10)
    batch = [large(n) for n in range(3)]
    outcome, _ = deliver(Bucket(together=together), batch, kind="kinesis", concurrency=3)
    assert outcome == Outcome(3)


def test_a_body_is_not_put_aside_again_because_its_message_failed() -> None:
    bucket, client = Bucket(), Faulty(Memory(), errors=[client_error("ThrottlingException")] * 3)
    outcome, _ = deliver(bucket, [large(0)], client=client)
    assert (outcome, bucket.puts) == (Outcome(1), 1)


@pytest.mark.parametrize("kind", ["sqs", "kinesis"])
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("put_s", [0.5, 2, 3, 6])
def test_a_slow_bucket_neither_outlasts_the_deadline_nor_stops_the_stream(
    kind: str, concurrency: int, put_s: float
) -> None:
    """G5: what was put aside in time is sent, the rest comes with the next run."""
    clock, batch = Clock(), [large(n) for n in range(500)]
    bucket = Bucket(clock=clock, put_s=put_s)
    given: Any = {"kind": kind, "clock": clock, "concurrency": concurrency, "deadline_s": 20}
    outcome, client = deliver(bucket, batch, **given)
    assert clock.now_s <= 20
    assert 0 < outcome.delivered < 500
    assert outcome.error is None
    assert ids(client.taken) == [change_id(each) for each in batch[: outcome.delivered]]


def test_a_bucket_that_fails_slowly_does_not_outlast_the_deadline() -> None:
    clock = Clock()
    bucket = Bucket(clock=clock, put_s=6, errors=[client_error("InternalError", 500)] * 100)
    outcome, _ = deliver(bucket, [large(n) for n in range(20)], clock=clock, deadline_s=20)
    assert clock.now_s <= 20
    assert isinstance(outcome.error, DeliveryFailed)


@pytest.mark.parametrize("deadline_s", [2, 5])
def test_the_shortest_delivery_puts_one_body_aside_and_sends_its_message(deadline_s: float) -> None:
    """Else a function with a short timeout would never get beyond a large change."""
    clock = Clock()
    bucket = Bucket(clock=clock, put_s=0.1)
    batch = [large(n) for n in range(20)]
    outcome, _ = deliver(bucket, batch, clock=clock, deadline_s=deadline_s, concurrency=1)
    assert (outcome, bucket.puts) == (Outcome(1), 1)


@pytest.mark.parametrize(
    ("code", "status"),
    [("SlowDown", 503), ("IncompleteBody", 400), ("OperationAborted", 409), ("InternalError", 500)],
)
def test_a_bucket_that_fails_is_no_failure_of_the_change(code: str, status: int) -> None:
    """G1: it is tried again, and says whose failure it is."""
    bucket = Bucket(errors=[client_error(code, status)] * 100)
    outcome, client = deliver(bucket, [change(0), large(1)])
    assert outcome.delivered == 1
    assert isinstance(outcome.error, DeliveryFailed)
    assert f"{code} (claim check)" in str(outcome.error)
    assert ids(client.taken) == [change_id(change(0))]


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("AccessDenied", 403, r"lacks s3:PutObject on arn:aws:s3:::b/\*"),
        ("NoSuchBucket", 404, r"arn:aws:s3:::b/\* does not exist"),
        ("PermanentRedirect", 301, "cannot be used as it is"),
        ("AllAccessDisabled", 403, "cannot be used as it is"),
        ("InvalidToken", 400, "the credentials are not valid"),
        ("403", 403, "was not reached"),
    ],
)
def test_a_bucket_that_refuses_is_fatal(code: str, status: int, told: str) -> None:
    with pytest.raises(SinkRefused, match=f"sink 'out': claim check: .*{told}"):
        deliver(Bucket(errors=[client_error(code, status)]), [large(1)])


@pytest.mark.parametrize("cloudevents", [False, True])
def test_a_consumer_of_events_reads_the_body_behind_a_claim(cloudevents: bool) -> None:
    """A CloudEvent holds the claim in its data, where it would hold the body."""
    bucket = Bucket()
    _, client = deliver(bucket, [large(1), change(2)], kind="eventbridge", cloudevents=cloudevents)
    for sent, each in zip(client.taken, [large(1), change(2)], strict=True):
        detail = json.loads(sent["Detail"])
        body = json.loads(read_body(detail["data"] if cloudevents else detail, bucket))
        assert body["fullDocument"] == each["fullDocument"]
