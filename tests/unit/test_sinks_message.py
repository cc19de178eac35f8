"""What is sent of a change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sink_kinds import KINDS, Memory, batch_of, change, sink_on, sink_settings
from tidemark.encoding import encode
from tidemark.model import change_id
from tidemark.sinks.message import content_of, namespace, traceparent_of

if TYPE_CHECKING:
    from tidemark.ports import Outcome

XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TRACEPARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
DELETE: dict[str, Any] = {
    "_id": {"_data": "82"},
    "operationType": "delete",
    "ns": {"db": "shop", "coll": "orders"},
    "documentKey": {"_id": 1},
}
DROP = {"_id": {"_data": "83"}, "operationType": "drop", "ns": {"db": "shop", "coll": "orders"}}


def sent(kind: str, each: dict[str, Any], **given: Any) -> dict[str, Any]:
    client = Memory()
    outcome = sink_on(client, sink_settings(kind, **given)).deliver(batch_of([each]), deadline_s=9)
    assert outcome.error is None
    return client.taken[0]


def delivered(kind: str, each: dict[str, Any], **given: Any) -> Outcome:
    return sink_on(Memory(), sink_settings(kind, **given)).deliver(batch_of([each]), deadline_s=9)


@pytest.mark.parametrize("encoding", ["relaxed", "canonical", "simplified"])
def test_the_whole_change_is_sent_as_the_encoder_writes_it(encoding: Any) -> None:
    each = change(7)
    assert sent("sqs", each, encoding=encoding)["MessageBody"].encode() == encode(each, encoding)


def test_the_document_alone_can_be_sent() -> None:
    assert json.loads(sent("sqs", change(7), body="document")["MessageBody"]) == {"_id": 7, "n": 7}


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (DELETE, {"documentKey": {"_id": 1}, "operationType": "delete"}),
        (DROP, {"ns": {"db": "shop", "coll": "orders"}, "operationType": "drop"}),
        (
            DELETE | {"operationType": "update", "fullDocument": None},
            {"documentKey": {"_id": 1}, "operationType": "update"},
        ),
    ],
    ids=["delete", "drop", "update whose document is gone"],
)
def test_a_change_without_a_document_is_sent_as_its_key(
    each: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert content_of(each, "document") == expected


def test_a_projection_keeps_what_there_is_nested_as_it_was() -> None:
    each = change(7, fullDocument={"_id": 7, "a": {"b": 1, "c": 2}, "list": [{"x": 1}]})
    paths = ("documentKey", "fullDocument.a.b", "fullDocument.list", "fullDocument.gone", "no.way")
    assert content_of(each, paths) == {
        "documentKey": {"_id": 7},
        "fullDocument": {"a": {"b": 1}, "list": [{"x": 1}]},
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [5, 0, "text", "", [1, 2], False])
def test_what_is_no_document_is_not_sent_as_one(kind: str, value: object) -> None:
    """A pipeline may set `fullDocument` to anything; cut to fit, it would arrive as another."""
    outcome = delivered(kind, change(7, fullDocument=value), body="document")
    assert (outcome.delivered, outcome.named) == (0, True)
    kind_of_value = type(value).__name__
    assert str(outcome.error) == (
        f"fullDocument is of type {kind_of_value}: only a document can be sent"
    )


def test_an_empty_document_is_a_document() -> None:
    assert sent("sqs", change(7, fullDocument={}), body="document")["MessageBody"] == "{}"


@pytest.mark.parametrize("kind", ["eventbridge", "kinesis"])
def test_a_field_of_the_attributes_name_is_not_overwritten(kind: str) -> None:
    outcome = delivered(kind, change(7, fullDocument={"tidemark": "mine"}), body="document")
    assert outcome.named
    assert "has a field 'tidemark'" in str(outcome.error)
    inside = change(7, fullDocument={"in": {"tidemark": "mine"}})
    assert sent(kind, inside, body="document")


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_that_are_no_text_are_left_out(kind: str) -> None:
    """A pipeline may set them to anything; that stops no stream."""
    for odd in ({"ns": "shop"}, {"ns": {"db": 1, "coll": None}}, {"operationType": 5}):
        assert sent(kind, change(7, **odd))


@pytest.mark.parametrize(
    "paths", [("fullDocument", "fullDocument.n"), ("fullDocument.n", "fullDocument")]
)
def test_a_path_wins_over_those_inside_it(paths: tuple[str, ...]) -> None:
    assert content_of(change(7), paths) == {"fullDocument": {"_id": 7, "n": 7}}


@pytest.mark.parametrize("kind", ["sqs", "sns"])
def test_a_subscription_can_filter_by_attributes(kind: str) -> None:
    attributes = sent(kind, change(7))["MessageAttributes"]
    assert {name: each["StringValue"] for name, each in attributes.items()} == {
        "stream": "orders",
        "operationType": "insert",
        "ns": "shop.orders",
        "changeId": change_id(change(7)),
    }
    assert {each["DataType"] for each in attributes.values()} == {"String"}


@pytest.mark.parametrize(("kind", "part"), [("eventbridge", "Detail"), ("kinesis", "Data")])
def test_a_service_without_attributes_has_them_in_the_body(kind: str, part: str) -> None:
    body = json.loads(sent(kind, change(7))[part])
    assert body.pop("tidemark") == {
        "stream": "orders",
        "operationType": "insert",
        "ns": "shop.orders",
        "changeId": change_id(change(7)),
    }
    assert body == json.loads(encode(change(7)))


def test_an_empty_body_with_attributes_is_still_json() -> None:
    assert json.loads(sent("kinesis", change(7), body=("no.way",))["Data"]).keys() == {"tidemark"}


@pytest.mark.parametrize("kind", ["sqs", "sns", "eventbridge", "kinesis"])
def test_a_name_that_is_no_text_is_sent_all_the_same(kind: str) -> None:
    """A client may be told to let lone surrogates pass (`unicode_decode_error_handler`)."""
    assert sent(kind, change(7, ns={"db": "shop", "coll": "\udcff"}))


def test_what_a_change_lacks_is_no_attribute() -> None:
    """SQS refuses an empty attribute; a pipeline may have removed the fields."""
    attributes = sent("sqs", {"_id": {"_data": "82"}})["MessageAttributes"]
    assert attributes.keys() == {"stream", "changeId"}


@pytest.mark.parametrize(
    ("ns", "expected"),
    [({"db": "shop", "coll": "a.b"}, "shop.a.b"), ({"db": "shop"}, "shop"), (None, "")],
)
def test_a_namespace_is_written_as_mongodb_writes_it(ns: Any, expected: str) -> None:
    assert namespace({"ns": ns}) == expected


def test_an_event_says_what_the_sink_says() -> None:
    event = sent("eventbridge", change(7), source="shop", detail_type="Order {operationType}")
    assert (event["Source"], event["DetailType"]) == ("shop", "Order insert")
    assert event["EventBusName"] == "bus"
    plain = sent("eventbridge", change(7))
    assert (plain["Source"], plain["DetailType"]) == ("tidemark", "mongodb.insert")


def test_an_event_can_be_a_cloudevent() -> None:
    event = sent("eventbridge", change(7), cloudevents=True, body="document", source="/shop")
    assert json.loads(event["Detail"]) == {
        "specversion": "1.0",
        "id": change_id(change(7)),
        "source": "/shop",
        "type": "mongodb.insert",
        "subject": "shop.orders",
        "stream": "orders",
        "datacontenttype": "application/json",
        "data": {"_id": 7, "n": 7},
    }


def test_the_partition_key_is_the_documents() -> None:
    one, other = sent("kinesis", change(1, "a")), sent("kinesis", change(2, "b"))
    again = sent("kinesis", change(3, "a"))
    assert one["PartitionKey"] == again["PartitionKey"] != other["PartitionKey"]
    assert len(one["PartitionKey"]) <= 256


def test_what_keeps_its_order_is_the_document_or_what_the_sink_says() -> None:
    """G2: one group where the order counts; groups of their own elsewhere."""
    elsewhere = {"ns": {"db": "shop", "coll": "users"}}
    same = [change(1, "a"), change(2, "a"), change(3, "a", operationType="delete")]
    others = [change(4, "b"), change(5, "a", **elsewhere), change(6, documentKey=None)]
    assert groups("document", same) == groups("document", same[:1])
    assert len(groups("document", same + others)) == 4
    assert len(groups("namespace", same + others)) == 2
    assert len(groups("stream", same + others)) == 1


def groups(wider: str, changes: list[dict[str, Any]]) -> set[str]:
    return {sent("sqs-fifo", each, group=wider)["MessageGroupId"] for each in changes}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (XRAY, TRACEPARENT),
        (XRAY + ";Lineage=a87bd80c:1", TRACEPARENT),
        (XRAY.replace("Sampled=1", "Sampled=0"), None),
        ("Root=1-5759e988-bd862e3fe1be46a994272793", None),
        (None, None),
    ],
)
def test_a_sampled_trace_goes_on_behind_the_sink(header: str | None, expected: str | None) -> None:
    assert traceparent_of(header) == expected


def test_a_message_carries_the_invocations_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", XRAY)
    attributes = sent("sqs", change(1))["MessageAttributes"]
    assert attributes["traceparent"]["StringValue"] == TRACEPARENT
