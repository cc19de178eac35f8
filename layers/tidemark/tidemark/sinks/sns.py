"""An SNS topic as a target: standard, without an order, or FIFO, in order within a group."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tidemark.sinks.message import Message
from tidemark.sinks.sqs import allowed, answers_by_id, fifo_values, string_attributes
from tidemark.sinks.target import Answers, Entries, Limits
from tidemark.sinks.wire import as_form, read_answers, write_bodies
from tidemark.targets import is_fifo

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

# Source: PublishBatch, API reference: 256 KiB by default; a topic's MaximumMessageSize may be more.
LIMITS = Limits(entries=10, batch_bytes=262_144, message_bytes=262_144)
_ID = re.compile(rb"<Id>([^<]*)</Id>")
_NOTHING = b"<PublishBatchResponse><PublishBatchResult/></PublishBatchResponse>"


class SnsTarget:
    """Publishes to one topic."""

    limits = LIMITS
    asks_first = False
    permission = "sns:Publish"

    def __init__(self, client: "SNSClient", target: str) -> None:
        write_bodies(client, "sns.PublishBatch", "PublishBatchRequestEntries", _as_query)
        read_answers(client, "sns.PublishBatch", _all_taken, _NOTHING)
        self._client = client
        self._topic = target
        self.keeps_order = is_fifo(target)

    def entry(self, message: Message) -> tuple[dict[str, Any], int]:
        """The body and its attributes; both count."""
        body, (attributes, attribute_bytes) = allowed(message.body), string_attributes(message)
        values = {
            "Id": str(message.place),
            "Message": body.decode(),
            "MessageAttributes": attributes,
        }
        if self.keeps_order:
            values |= fifo_values(message)
        return values, len(body) + attribute_bytes

    def send(self, entries: Entries) -> Answers:
        """One PublishBatch."""
        answer = self._client.publish_batch(
            TopicArn=self._topic,
            PublishBatchRequestEntries=list(entries),  # type: ignore[arg-type]
        )
        return answers_by_id(entries, answer)


def _as_query(given: Mapping[str, Any], entries: Entries) -> bytes:
    """As AWS's query protocol has it: each value under the path of its name."""
    pairs = [("Action", "PublishBatch"), ("Version", "2010-03-31"), ("TopicArn", given["TopicArn"])]
    for number, entry in enumerate(entries, 1):
        pairs += _flat(f"PublishBatchRequestEntries.member.{number}", entry)
    return as_form(pairs)


def _all_taken(body: bytes) -> dict[str, Any] | None:
    """An answer without failures; None of any other, which the SDK reads."""
    if b"<Failed/>" not in body:
        return None
    return {"Successful": [{"Id": each.decode()} for each in _ID.findall(body)]}


def _flat(path: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in entry.items():
        if isinstance(value, str):
            yield f"{path}.{name}", value
    for number, (name, attribute) in enumerate(entry["MessageAttributes"].items(), 1):
        at = f"{path}.MessageAttributes.entry.{number}"
        yield f"{at}.Name", name
        yield f"{at}.Value.DataType", attribute["DataType"]
        yield f"{at}.Value.StringValue", attribute["StringValue"]
