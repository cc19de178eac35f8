"""What comes of a batch, by what the service says of its entries."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError
from botocore.parsers import ResponseParserError

from sink_kinds import (
    KINDS,
    PER_REQUEST,
    TARGETS,
    Clock,
    Fate,
    Fates,
    Faulty,
    Memory,
    batch_of,
    change,
    client_error,
    first_places,
    ids,
    sink_on,
    sink_settings,
    sizes,
)
from tidemark.errors import DeliveryFailed, PoisonChange, SinkRefused
from tidemark.model import Batch, Undecodable, change_id
from tidemark.ports import Outcome
from tidemark.sinks.bulk import EntryRejected, Oversized, OversizeHalted
from tidemark.sinks.outbox import MAX_TRIES
from tidemark.sinks.refusals import OF_SQS
from tidemark.sinks.target import Limits

BY_ID = [kind for kind in KINDS if kind.startswith("s")]
PERMISSIONS = {
    "sqs": "sqs:SendMessage",
    "sqs-fifo": "sqs:SendMessage",
    "sns": "sns:Publish",
    "sns-fifo": "sns:Publish",
    "eventbridge": "events:PutEvents",
    "kinesis": "kinesis:PutRecords",
}
MISSING = {
    "sqs": "AWS.SimpleQueueService.NonExistentQueue",
    "sns": "NotFound",
    "eventbridge": "ResourceNotFoundException",
    "kinesis": "ResourceNotFoundException",
}


def changes(count: int) -> list[dict[str, Any]]:
    return [change(number) for number in range(count)]


def always(place: int, fate: Fate) -> Fates:
    return Fates(always={change_id(change(place)): fate})


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_full(kind: str) -> None:
    client = Faulty(Memory())
    count = 2 * PER_REQUEST[kind] + 3
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(count)), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (count, None)
    assert sizes(client.requests) == {PER_REQUEST[kind]: 2, 3: 1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_stays_within_the_bytes_that_the_service_counts(kind: str) -> None:
    """Each service counts more than the body: attributes, source and type, or partition key."""
    client = Faulty(Memory())
    settings = sink_settings(kind, max_batch_bytes=2_500, max_message_bytes=2_500)
    sink_on(client, settings).deliver(batch_of(changes(9)), deadline_s=9)
    counted = [sum(map(counted_bytes, request)) for request in client.requests]
    assert max(counted) <= 2_500
    assert len(counted) < 9
    smallest = min(counted_bytes(entry) for request in client.requests for entry in request)
    assert all(size + smallest > 2_500 for size in counted[:-1])


def counted_bytes(entry: dict[str, Any]) -> int:
    """As the API references say; written out anew, so that the code's own sum can be wrong."""
    attributes = entry.get("MessageAttributes", {})
    size = sum(
        len(name) + len("String") + len(each["StringValue"]) for name, each in attributes.items()
    )
    for name in ("MessageBody", "Message", "Source", "DetailType", "Detail", "PartitionKey"):
        size += len(entry.get(name, "").encode())
    return size + len(entry.get("Data", b""))


@pytest.mark.parametrize("kind", KINDS)
def test_a_throttled_entry_is_sent_again_and_the_others_are_not(kind: str) -> None:
    client = Faulty(Memory(), Fates([Fate.TAKEN, Fate.THROTTLED, Fate.TAKEN, Fate.THROTTLED]))
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(4)), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (4, None)
    first, again = client.requests
    assert ids(again) == [ids(first)[1], ids(first)[3]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_that_the_answer_lacks_is_sent_again(kind: str) -> None:
    client = Faulty(Memory(), Fates([Fate.TAKEN, Fate.TAKEN, Fate.UNANSWERED]))
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(3)), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (3, None)
    assert ids(client.requests[1]) == [change_id(change(2))]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_anything_delivers_nothing(kind: str) -> None:
    client = Faulty(Memory(), Fates([Fate.UNANSWERED] * 1_000))
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(2)), deadline_s=99)
    assert outcome.delivered == 0
    assert isinstance(outcome.error, DeliveryFailed)
    assert "NoAnswer" in str(outcome.error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        *({name: None} for name in ("Successful", "Failed", "Entries", "Records")),
        *({name: ["x", None, {}]} for name in ("Successful", "Failed", "Entries", "Records")),
        {"Successful": [{"MessageId": "m"}], "Failed": [{"Code": "x"}]},
    ],
    ids=str,
)
def test_an_answer_that_is_none_delivers_nothing_and_breaks_nothing(kind: str, answer: Any) -> None:
    """G1: whatever answers in the service's place."""

    class Odd(Memory):
        def _by_id(self, entries: Any) -> Any:  # noqa: ARG002
            return answer

        def put_events(self, *, Entries: Any) -> Any:  # noqa: ARG002, N803
            return answer

        def put_records(self, *, Records: Any, StreamName: str) -> Any:  # noqa: ARG002, N803
            return answer

    outcome = sink_on(Odd(), sink_settings(kind)).deliver(batch_of(changes(3)), deadline_s=99)
    assert (outcome.delivered, type(outcome.error)) == (0, DeliveryFailed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_is_not_answered_is_the_targets_doing(kind: str) -> None:
    """G1: a process that ends with it accuses no change."""
    assert not sink_on(Memory(), sink_settings(kind)).may_hang_on_a_change


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_throttled_is_given_up_and_blames_no_change(kind: str) -> None:
    """G1: everything before it is delivered; nothing more is sent behind it."""
    client = Faulty(Memory(), always(3, Fate.THROTTLED))
    settings = sink_settings(kind, concurrency=1)
    outcome = sink_on(client, settings).deliver(batch_of(changes(2_000)), deadline_s=99)
    assert (outcome.delivered, outcome.named) == (3, False)
    assert isinstance(outcome.error, DeliveryFailed)
    tried = [name for request in client.requests for name in ids(request)]
    assert tried.count(change_id(change(3))) == MAX_TRIES
    assert len(client.requests) <= MAX_TRIES


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_confirmed_behind_a_failed_change_is_not_sent_again_in_the_run(kind: str) -> None:
    """G3: a throttled partition costs no duplicates of all the others, delivery after delivery."""
    client = Faulty(Memory(), always(1, Fate.THROTTLED))
    sink, rest = sink_on(client, sink_settings(kind)), batch_of(changes(9))
    for _ in range(3):
        outcome = sink.deliver(rest, deadline_s=99)
        rest = rest[outcome.delivered :]
    assert len(rest) == 8
    client.fates = Fates()
    assert sink.deliver(rest, deadline_s=99) == Outcome(8)
    assert sorted(ids(client.taken)) == sorted(map(change_id, changes(9)))


def test_another_run_sends_again_what_was_confirmed_behind_a_failed_change() -> None:
    """Whoever moves a position back, or restores it, gets the changes behind it."""
    client = Faulty(Memory(), always(0, Fate.THROTTLED))
    sink = sink_on(client, sink_settings("sqs"))
    sink.deliver(batch_of(changes(4)), deadline_s=99)
    client.fates = Fates()
    assert sink.deliver(Batch("orders", changes(4), 2), deadline_s=99) == Outcome(4)
    assert len(client.taken) == 3 + 4


def test_what_is_confirmed_for_one_stream_is_not_for_another() -> None:
    client = Faulty(Memory(), always(0, Fate.THROTTLED))
    sink = sink_on(client, sink_settings("sqs"))
    for stream in ("orders", "copies"):
        sink.deliver(Batch(stream, changes(4), 1), deadline_s=99)
    assert len(client.taken) == 2 * 3


def test_a_poison_change_behind_confirmed_ones_is_named_at_its_place() -> None:
    client = Faulty(Memory(), always(0, Fate.THROTTLED))
    sink = sink_on(client, sink_settings("sqs"))
    batch = batch_of([*changes(3), change(3, fullDocument={"x": object()})])
    assert sink.deliver(batch, deadline_s=99).delivered == 0
    client.fates = Fates()
    outcome = sink.deliver(batch, deadline_s=99)
    assert (outcome.delivered, outcome.named) == (3, True)
    assert isinstance(outcome.error, PoisonChange)


@pytest.mark.parametrize("kind", [*BY_ID, "eventbridge"])
def test_a_rejected_entry_is_named_and_not_tried_again(kind: str) -> None:
    client = Faulty(Memory(), always(2, Fate.REJECTED))
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(5)), deadline_s=9)
    assert (outcome.delivered, outcome.named) == (2, True)
    assert isinstance(outcome.error, EntryRejected)
    assert ids(client.taken).count(change_id(change(2))) == 0
    assert len(client.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_rejected_whole_is_sent_one_by_one_to_find_the_change(kind: str) -> None:
    bad = change_id(change(1))

    class Picky(Memory):
        def refuse(self, entries: Any) -> None:
            if bad in ids(entries):
                raise client_error("InvalidParameterValue")

        def _by_id(self, entries: Any) -> Any:
            self.refuse(entries)
            return super()._by_id(entries)

        def put_events(self, *, Entries: Any) -> Any:  # noqa: N803
            self.refuse(Entries)
            return super().put_events(Entries=Entries)

        def put_records(self, *, Records: Any, StreamName: str) -> Any:  # noqa: N803
            self.refuse(Records)
            return super().put_records(Records=Records, StreamName=StreamName)

    client = Faulty(Picky())
    settings = sink_settings(kind, concurrency=1)
    outcome = sink_on(client, settings).deliver(batch_of(changes(4)), deadline_s=9)
    assert (outcome.delivered, outcome.named) == (1, True)
    assert isinstance(outcome.error, EntryRejected)
    assert sizes(client.requests) == {4: 1, 1: 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        ResponseParserError("a proxy's HTML"),
        client_error("ThrottlingException"),
        client_error("Oops", 503),
        ConnectTimeoutError(endpoint_url=""),
    ],
    ids=["no answer of the service", "throttled", "server error", "no connection"],
)
def test_a_failed_request_is_sent_again(kind: str, error: Exception) -> None:
    client = Faulty(Memory(), errors=[error])
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(3)), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (3, None)
    assert sizes(client.requests) == {3: 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_target_that_denies_access_is_fatal_and_says_which_permission_is_missing(
    kind: str, concurrency: int
) -> None:
    client = Faulty(Memory(), errors=[client_error("AccessDeniedException", 403)])
    sink = sink_on(client, sink_settings(kind, concurrency=concurrency))
    with pytest.raises(SinkRefused) as refused:
        sink.deliver(batch_of(changes(1_500)), deadline_s=9)
    assert f"lacks {PERMISSIONS[kind]} on {TARGETS[kind]}" in str(refused.value)


def test_an_event_bus_that_denies_one_event_is_fatal_too() -> None:
    class Denying(Memory):
        def put_events(self, *, Entries: Any) -> Any:  # noqa: N803
            return {"Entries": [{"ErrorCode": "AccessDeniedException"} for _ in Entries]}

    with pytest.raises(SinkRefused, match="lacks events:PutEvents on bus"):
        sink_on(Denying(), sink_settings("eventbridge")).deliver(batch_of(changes(1)), deadline_s=9)


def test_an_event_bus_that_may_not_be_asked_for_names_the_other_permission() -> None:
    class Hidden(Memory):
        def describe_event_bus(self, *, Name: str) -> Any:  # noqa: ARG002, N803
            raise client_error("AccessDeniedException")

    with pytest.raises(SinkRefused, match="lacks events:DescribeEventBus on bus"):
        sink_on(Hidden(), sink_settings("eventbridge")).deliver(batch_of(changes(1)), deadline_s=9)


@pytest.mark.parametrize("kind", MISSING)
def test_a_target_that_does_not_exist_is_fatal(kind: str) -> None:
    client = Faulty(Memory(), errors=[client_error(MISSING[kind])])
    with pytest.raises(SinkRefused, match="does not exist"):
        sink_on(client, sink_settings(kind)).deliver(batch_of(changes(1)), deadline_s=9)


def test_a_bus_that_does_not_exist_is_fatal_though_it_would_take_the_events() -> None:
    """G1: PutEvents reports success for a bus that is not there."""

    class NoBus(Memory):
        def describe_event_bus(self, *, Name: str) -> Any:  # noqa: ARG002, N803
            raise client_error("ResourceNotFoundException")

    client = NoBus()
    with pytest.raises(SinkRefused, match="sink 'out': bus does not exist"):
        sink_on(client, sink_settings("eventbridge")).deliver(batch_of(changes(1)), deadline_s=9)
    assert client.taken == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (client_error("InvalidAddress"), "cannot be used as it is"),
        (client_error(f"{OF_SQS}UnsupportedOperation"), "cannot be used as it is"),
        (client_error("InvalidClientTokenId", 403), "the credentials are not valid"),
        (client_error("403", 403), r"was not reached \(403\)"),
        (client_error("unknown", 401), "was not reached"),
        (client_error("404", 404), "was not reached"),
        (client_error("407", 407), "check AWS_ENDPOINT_URL, proxies and sqs:SendMessage"),
    ],
)
def test_a_mistake_of_the_stack_is_blamed_on_no_change(error: Exception, told: str) -> None:
    """G1: else every change of the stream would be set aside, one by one."""
    client = Faulty(Memory(), errors=[error])
    with pytest.raises(SinkRefused, match=told):
        sink_on(client, sink_settings("sqs")).deliver(batch_of(changes(3)), deadline_s=9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "error",
    [
        client_error("MalformedQueryString"),
        client_error("ErrorOfNextYear", 418),
        client_error("RequestTimeTooSkewed", 403),
        client_error("RequestThrottled", 403),
        client_error("KMS.ThrottlingException"),
        client_error("KmsThrottled"),
    ],
    ids=lambda error: error.response["Error"]["Code"],
)
def test_what_nobody_knows_or_time_may_mend_is_tried_again(kind: str, error: Exception) -> None:
    """G1: it sets no change aside; a stream that cannot go on says so, run after run."""
    client = Faulty(Memory(), errors=[error] * 100)
    outcome = sink_on(client, sink_settings(kind)).deliver(batch_of(changes(3)), deadline_s=99)
    assert (outcome.delivered, type(outcome.error)) == (0, DeliveryFailed)
    client.errors.clear()
    assert sink_on(client, sink_settings(kind)).deliver(batch_of(changes(3)), deadline_s=9) == (
        Outcome(3)
    )


@pytest.mark.parametrize("code", ["Throttled", "KMS.ThrottlingException", "ErrorOfNextYear"])
def test_an_entry_is_rejected_by_a_known_code_and_not_by_the_services_flag_alone(
    code: str,
) -> None:
    """G1: being throttled is called the sender's fault too, and so may be what is yet unknown."""

    class Throttling(Memory):
        def _by_id(self, entries: Any) -> Any:
            return {
                "Failed": [
                    {"Id": each["Id"], "Code": code, "SenderFault": True} for each in entries
                ]
            }

    outcome = sink_on(Throttling(), sink_settings("sns")).deliver(
        batch_of(changes(1)), deadline_s=99
    )
    assert isinstance(outcome.error, DeliveryFailed)


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        ("sqs", "kms:GenerateDataKey and kms:Decrypt on the key"),
        ("sns", "kms:GenerateDataKey and kms:Decrypt on the key"),
        ("kinesis", "kms:GenerateDataKey on the key"),
    ],
)
def test_a_key_that_the_role_cannot_use_is_fatal_and_says_so(kind: str, lacking: str) -> None:
    client = Faulty(Memory(), errors=[client_error("KMSAccessDeniedException")])
    with pytest.raises(SinkRefused, match=f"lacks {lacking}"):
        sink_on(client, sink_settings(kind)).deliver(batch_of(changes(1)), deadline_s=9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_deadline_ends_a_delivery_behind_at_least_one_request(kind: str) -> None:
    """G5: what is not sent in time is no failure."""
    client = Faulty(Memory())
    settings = sink_settings(kind, concurrency=1)
    outcome = sink_on(client, settings).deliver(batch_of(changes(1_200)), deadline_s=2)
    assert (outcome.delivered, outcome.error) == (PER_REQUEST[kind], None)


@pytest.mark.parametrize(("deadline_s", "requests"), [(0, 1), (6.9, 1), (7, 2), (9, 4)])
def test_a_request_begins_only_where_the_slowest_would_end_in_time(
    deadline_s: float, requests: int
) -> None:
    """G5: a second each; two attempts at a target that does not answer take six."""
    clock = Clock()

    class Slow(Memory):
        def _by_id(self, entries: Any) -> Any:
            clock.sleep_s(1)
            return super()._by_id(entries)

    client = Faulty(Slow())
    sink = sink_on(client, sink_settings("sqs", concurrency=1), clock=clock)
    outcome = sink.deliver(batch_of(changes(100)), deadline_s=deadline_s)
    assert (len(client.requests), outcome.delivered) == (requests, 10 * requests)


def test_a_delivery_asks_for_its_bus_once() -> None:
    class Counting(Memory):
        asked = 0

        def describe_event_bus(self, *, Name: str) -> Any:  # noqa: N803
            self.asked += 1
            with suppress(threading.BrokenBarrierError):  # others ask meanwhile, if they do
                together.wait(timeout=0.2)
            return {"Name": Name}

    together, client = threading.Barrier(2), Counting()
    sink = sink_on(client, sink_settings("eventbridge", concurrency=32))
    assert sink.deliver(batch_of(changes(300)), deadline_s=9) == Outcome(300)
    assert client.asked == 1


def test_a_bus_that_is_slow_to_be_found_leaves_the_events_to_the_next_delivery() -> None:
    clock = Clock()

    class Slow(Memory):
        def describe_event_bus(self, *, Name: str) -> Any:  # noqa: N803
            clock.sleep_s(5)
            return {"Name": Name}

    client = Slow()
    outcome = sink_on(client, sink_settings("eventbridge"), clock=clock).deliver(
        batch_of(changes(3)), deadline_s=6
    )
    assert (outcome.delivered, outcome.error, client.taken) == (0, None, [])


@pytest.mark.parametrize("deadline_s", [0, 1])
def test_no_wait_goes_beyond_the_deadline(deadline_s: float) -> None:
    clock = Clock()
    client = Faulty(Memory(), always(0, Fate.THROTTLED))
    sink = sink_on(client, sink_settings("sqs"), clock=clock)
    outcome = sink.deliver(batch_of(changes(2)), deadline_s=deadline_s)
    assert clock.now_s <= deadline_s / 2
    assert isinstance(outcome.error, DeliveryFailed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_that_cannot_be_written_is_named_behind_the_delivered_ones(kind: str) -> None:
    poison = change(2, fullDocument={"x": object()})
    client = Faulty(Memory())
    batch = batch_of([change(0), change(1), poison, change(3)])
    outcome = sink_on(client, sink_settings(kind)).deliver(batch, deadline_s=9)
    assert (outcome.delivered, outcome.named) == (2, True)
    assert isinstance(outcome.error, PoisonChange)
    assert len(client.taken) == 2


def test_a_change_that_could_not_be_decoded_is_named() -> None:
    readable = change(0)
    undecodable = Undecodable(readable, b"raw", ValueError("private"))
    outcome = sink_on(Memory(), sink_settings("sqs")).deliver(batch_of([undecodable]), deadline_s=9)
    assert (outcome.delivered, outcome.named) == (0, True)
    assert isinstance(outcome.error, PoisonChange)
    assert "private" not in str(outcome.error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("oversize", "error"), [("dead_letter", Oversized), ("halt", OversizeHalted)]
)
def test_a_change_over_the_limit_is_named_with_what_becomes_of_it(
    kind: str, oversize: str, error: type[Exception]
) -> None:
    large = change(1, fullDocument={"text": "x" * 5_000})
    settings = sink_settings(kind, oversize=oversize, max_message_bytes=5_000)
    outcome = sink_on(Memory(), settings).deliver(batch_of([change(0), large]), deadline_s=9)
    assert (outcome.delivered, outcome.named) == (1, True)
    assert isinstance(outcome.error, error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_exactly_the_limit_is_sent(kind: str) -> None:
    client = Faulty(Memory())
    sink_on(client, sink_settings(kind)).deliver(batch_of([change(0)]), deadline_s=9)
    size = counted_bytes(client.taken[0])
    padding = 2_000 - size
    padded = change(0, fullDocument={"_id": 0, "n": 0, "p": "x" * (padding - len(',"p":""'))})
    for limit, error in ((2_000, type(None)), (1_999, Oversized)):
        settings = sink_settings(kind, oversize="dead_letter", max_message_bytes=limit)
        outcome = sink_on(Memory(), settings).deliver(batch_of([padded]), deadline_s=9)
        assert isinstance(outcome.error, error)


def test_requests_run_in_parallel() -> None:
    """As many at once as `concurrency` says: each waits for the others."""
    together = threading.Barrier(3, timeout=10)

    class Meeting(Memory):
        def put_events(self, *, Entries: Any) -> Any:  # noqa: N803
            together.wait()
            return super().put_events(Entries=Entries)

    settings = sink_settings("eventbridge", concurrency=3)
    outcome = sink_on(Meeting(), settings).deliver(batch_of(changes(30)), deadline_s=9)
    assert outcome.delivered == 30


@pytest.mark.parametrize("kind", ["sqs-fifo", "sns-fifo"])
def test_fifo_is_told_the_group_and_the_change(kind: str) -> None:
    """G3: within five minutes the service itself drops what comes again."""
    client = Faulty(Memory())
    batch = [change(0, "a"), change(1, "b"), change(2, "a")]
    sink_on(client, sink_settings(kind)).deliver(batch_of(batch), deadline_s=9)
    by_id = dict(zip(ids(client.taken), client.taken, strict=True))
    one, two, three = [by_id[change_id(each)] for each in batch]
    assert one["MessageGroupId"] == three["MessageGroupId"] != two["MessageGroupId"]
    assert [each["MessageDeduplicationId"] for each in (one, two, three)] == [
        *map(change_id, batch)
    ]


@pytest.mark.parametrize("kind", ["sqs", "sns"])
def test_a_standard_target_is_told_nothing_of_fifo(kind: str) -> None:
    client = Memory()
    sink_on(client, sink_settings(kind)).deliver(batch_of(changes(1)), deadline_s=9)
    assert not {"MessageGroupId", "MessageDeduplicationId"} & client.taken[0].keys()


@pytest.mark.parametrize(("group", "groups"), [("document", 3), ("namespace", 2), ("stream", 1)])
def test_a_group_is_as_wide_as_the_sink_says(group: str, groups: int) -> None:
    client = Memory()
    other = {"db": "shop", "coll": "users"}
    batch = batch_of([change(0, "a"), change(1, "b"), change(2, "a", ns=other)])
    sink_on(client, sink_settings("sqs-fifo", group=group)).deliver(batch, deadline_s=9)
    assert len({each["MessageGroupId"] for each in client.taken}) == groups


def test_characters_that_sqs_forbids_are_escaped_and_come_back() -> None:
    client = Memory()
    text = "a\ufffe\uffff\x00\x1f\x7fé🦉"
    odd = change(0, fullDocument={"text": text}, ns={"db": "shop", "coll": "a\x01b"})
    sink_on(client, sink_settings("sqs")).deliver(batch_of([odd]), deadline_s=9)
    [sent] = client.taken
    assert not set("\ufffe\uffff\x00\x1f") & set(sent["MessageBody"])
    assert json.loads(sent["MessageBody"])["fullDocument"]["text"] == text
    assert sent["MessageAttributes"]["ns"]["StringValue"] == "shop.a?b"


def test_limits_can_be_told_where_the_service_allows_more() -> None:
    known = Limits(10, 262_144, 262_144)
    raised = known.overridden(sink_settings("sns", max_message_bytes=1_048_576))
    assert raised == Limits(10, 1_048_576, 1_048_576)
    lowered = known.overridden(sink_settings("sns", max_batch_bytes=2_000))
    assert lowered == Limits(10, 2_000, 2_000)


def test_an_empty_place_is_delivered_before_a_later_one_counts() -> None:
    """G1: what is delivered is counted from the start without a gap."""
    client = Faulty(Memory(), always(0, Fate.THROTTLED))
    outcome = sink_on(client, sink_settings("sqs")).deliver(batch_of(changes(5)), deadline_s=99)
    assert outcome.delivered == 0
    assert len(first_places(ids(client.taken))) == 4
