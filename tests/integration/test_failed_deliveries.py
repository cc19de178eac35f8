"""A `deliver` that fails: retried, set aside, or halted, and never passed in silence."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import bson
import pytest
from bson import json_util

import aws
from service import Recorder, Service, key_of
from tidemark.invocation import StreamsFailed
from tidemark.model import change_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from tcp_proxy import Proxy
    from tidemark.model import Batch
    from tidemark.settings import StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]
    Stored: TypeAlias = Callable[..., dict[str, Any]]
    ServeDeadLetters: TypeAlias = Callable[..., tuple[Service, Callable[[], list[Any]]]]


class Refused(Exception):
    """What the test's `deliver` raises."""


def failing_at(*poison: Any) -> Callable[[Batch], None]:
    """Fails each batch that holds one of these keys, without saying which."""

    def fail(batch: Batch) -> None:
        if any(key_of(change) in poison for change in batch):
            raise Refused("do not repeat me")

    return fail


def naming(*poison: Any) -> Callable[[Batch], object]:
    """Names the changes with these keys, as AWS's own stream sources have it."""

    def name(batch: Batch) -> object:
        failed = [batch.change_id(change) for change in batch if key_of(change) in poison]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}

    return name


@pytest.fixture
def serve_dead_letters(aws_endpoint: str, serve: Serve) -> ServeDeadLetters:
    """Makes a container with a dead-letter queue and bucket, and a way to take the letters."""
    resources = aws.create_resources(aws_endpoint)
    sqs = boto3.client("sqs")

    def letters() -> list[Any]:
        found = sqs.receive_message(QueueUrl=resources.queue_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in found.get("Messages", [])]

    def make(*streams: StreamSettings, **given: Any) -> tuple[Service, Callable[[], list[Any]]]:
        told = {
            "dead_letter_queue_url": resources.queue_url,
            "payload_bucket": resources.bucket,
        } | given
        return serve(*streams, **told), letters

    return make


def test_a_failure_for_a_while_is_retried_within_the_run(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G1, G2: the same changes in the same order, and no trace of it afterwards."""
    failures = iter([Refused, Refused])

    def fail_twice(_: Batch) -> None:
        for failure in failures:
            raise failure

    container = serve(orders(), deliver=Recorder(fail_twice))
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(4)])
    container.run()
    assert container.deliver.keys == [0, 1, 2, 3]
    assert [event["attempts"] for event in container.named("delivery.failed")] == [1, 2]
    assert "attempts" not in stored()


def test_the_position_stays_before_the_first_change_named_as_failed(
    database: Db, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G1: everything before it is checkpointed, and it comes again first."""
    container = serve(orders(), deliver=Recorder(naming(2, 3)))
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(5)])
    with pytest.raises(StreamsFailed, match=r"DeliveryFailed: .*ChangeFailed at change"):
        container.run(remaining_ms=1200)
    assert stored()["attempts_change_id"] == container.named("delivery.failed")[-1]["change_id"]
    healed = serve(orders())
    healed.run()
    assert healed.deliver.keys == [2, 3, 4]


def test_attempts_are_counted_over_containers_and_end_in_a_dead_letter(
    database: Db, orders: Orders, serve_dead_letters: ServeDeadLetters
) -> None:
    """G1: the letter is durable before the position passes the change."""
    poison = Recorder(failing_at(2))
    serve_dead_letters(orders())[0].run()
    database.orders.insert_many([{"_id": key, "text": f"text {key}"} for key in range(5)])
    summary, containers = {"dead_letters": 0}, 0
    while not summary["dead_letters"]:
        containers += 1
        container, letters = serve_dead_letters(orders(max_attempts=6), deliver=poison)
        try:
            summary = container.run(remaining_ms=700)["orders"]
        except StreamsFailed:
            assert letters() == []
    assert containers > 1
    assert summary["dead_letters"] == 1
    assert poison.keys == [0, 1, 3, 4]
    [letter] = letters()
    assert (letter["stream"], letter["errorType"], letter["attempts"]) == ("orders", "Refused", 6)
    assert letter["lastFailedAtMs"] >= letter["firstFailedAtMs"]
    assert letter["fencingToken"] == containers + 1


def test_a_dead_letter_holds_the_whole_change(
    database: Db, orders: Orders, serve_dead_letters: ServeDeadLetters
) -> None:
    """G1: it can be redelivered, type by type."""
    container, letters = serve_dead_letters(
        orders(max_attempts=1), deliver=Recorder(failing_at("poison"))
    )
    container.run()
    document = {"_id": "poison", "long": bson.Int64(7), "real": 0.1, "many": [bson.ObjectId()]}
    database.orders.insert_one(document)
    container.run()
    [letter] = letters()
    change = json_util.loads(
        json.dumps(letter["change"]), json_options=json_util.CANONICAL_JSON_OPTIONS
    )
    assert change["fullDocument"] == document
    assert isinstance(change["fullDocument"]["long"], bson.Int64)
    assert change_id(change) == letter["changeId"]


def test_a_change_named_as_failed_is_set_aside_without_a_search(
    database: Db, orders: Orders, serve_dead_letters: ServeDeadLetters
) -> None:
    container, letters = serve_dead_letters(orders(max_attempts=1), deliver=Recorder(naming(1, 3)))
    container.run()
    database.orders.insert_many([{"_id": key} for key in range(5)])
    container.run()
    assert [letter["errorType"] for letter in letters()] == ["ChangeFailed"] * 2
    assert len(container.deliver.batches) == 3


def test_a_large_change_is_put_aside_in_the_bucket(
    database: Db, orders: Orders, serve_dead_letters: ServeDeadLetters
) -> None:
    container, letters = serve_dead_letters(orders(max_attempts=1), deliver=Recorder(failing_at(1)))
    container.run()
    database.orders.insert_one({"_id": 1, "text": "x" * 300_000})
    container.run()
    [letter] = letters()
    at = letter["changeAt"]
    body = boto3.client("s3").get_object(Bucket=at["bucket"], Key=at["key"])["Body"].read()
    assert len(body) == at["bytes"] > 300_000
    change = json_util.loads(body, json_options=json_util.CANONICAL_JSON_OPTIONS)
    assert change["fullDocument"]["text"] == "x" * 300_000


def test_a_large_change_without_a_bucket_stays(
    database: Db, orders: Orders, serve_dead_letters: ServeDeadLetters
) -> None:
    """G1: what cannot be set aside is not passed."""
    container, letters = serve_dead_letters(
        orders(max_attempts=1), deliver=Recorder(failing_at(1)), payload_bucket=None
    )
    container.run()
    database.orders.insert_many([{"_id": 0}, {"_id": 1, "text": "x" * 300_000}])
    with pytest.raises(StreamsFailed, match=r"DeadLetterFailed: .*set TIDEMARK_PAYLOAD_BUCKET"):
        container.run()
    assert letters() == []
    healed = serve_dead_letters(orders())[0]
    healed.run()
    assert healed.deliver.keys == [1]


def test_a_queue_that_refuses_keeps_the_position(
    database: Db, orders: Orders, serve: Serve, aws_endpoint: str
) -> None:
    """G1: what cannot be set aside is not passed."""
    container = serve(
        orders(max_attempts=1),
        deliver=Recorder(failing_at(1)),
        dead_letter_queue_url=f"{aws_endpoint}/000000000000/no-such-queue",
    )
    container.run()
    database.orders.insert_one({"_id": 1})
    with pytest.raises(StreamsFailed, match=r"DeadLetterFailed: .*check the queue"):
        container.run()
    healed = serve(orders())
    healed.run()
    assert healed.deliver.keys == [1]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_document_that_cannot_be_decoded_is_set_aside_alone(
    place: int,
    database: Db,
    behind_proxy: Callable[..., tuple[Proxy, str]],
    orders: Orders,
    serve_dead_letters: ServeDeadLetters,
) -> None:
    """G1, G2: its neighbours arrive in order; nothing of the raw document is lost.

    The embedded server takes no such document, so it is damaged on its way.
    """
    _, uri = behind_proxy(damage=(b"bad ? text", b"bad \xff text"))
    container, letters = serve_dead_letters(orders(), uri=uri)
    container.run()
    texts = ["bad ? text" if key == place else "good" for key in range(3)]
    database.orders.insert_many([{"_id": key, "text": texts[key]} for key in range(3)])
    summary = container.run()["orders"]
    assert container.run()["orders"]["dead_letters"] == 0
    assert container.deliver.keys == [key for key in range(3) if key != place]
    assert summary["dead_letters"] == 1
    [letter] = letters()
    assert (letter["errorType"], "change" in letter) == ("InvalidBSON", False)
    assert b"bad \xff text" in base64.b64decode(letter["rawBson"])


def test_halting_keeps_the_poison_until_an_operator_resumes(
    database: Db, orders: Orders, serve: Serve
) -> None:
    """G1, G2: nothing behind the poison is delivered before it."""
    container = serve(
        orders(max_attempts=1, on_failure="halt"), deliver=Recorder(failing_at("poison"))
    )
    container.run()
    database.orders.insert_many([{"_id": "good"}, {"_id": "poison"}, {"_id": "behind"}])
    with pytest.raises(StreamsFailed, match=r"StreamHalted: .*failed 1 times: Refused"):
        container.run()
    assert container.run()["orders"]["stop_reason"] == "halted"
    assert container.deliver.keys == ["good"]
    container.deliver.before = lambda _: None
    assert container.resume("orders") == {"stream": "orders", "resumed": True}
    container.run()
    assert container.deliver.keys == ["good", "poison", "behind"]


def test_resuming_a_stream_that_never_ran_says_so(orders: Orders, serve: Serve) -> None:
    assert serve(orders()).resume("orders") == {"stream": "orders", "resumed": False}


@pytest.mark.parametrize(
    "answer", [17, {"failed": []}, {"batchItemFailures": [{"itemIdentifier": "unknown"}]}], ids=str
)
def test_garbage_from_deliver_fails_the_batch_and_says_what_is_allowed(
    answer: object, database: Db, orders: Orders, serve: Serve
) -> None:
    container = serve(orders(), deliver=Recorder(lambda _: answer))
    container.run()
    database.orders.insert_one({"_id": 1})
    with pytest.raises(StreamsFailed, match="BadAnswer at change"):
        container.run(remaining_ms=1200)
    [*_, told] = container.named("delivery.failed")
    assert "deliver may return nothing, or" in told["error_message"]
