"""An SQS queue as a target: standard, without an order, or FIFO, in order within a group.

A FIFO queue drops what comes again within five minutes: the deduplication id is the change id.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemark.sinks.message import Message
from tidemark.sinks.refusals import REJECTIONS, plain
from tidemark.sinks.target import NO_ANSWER, Answers, Entries, Failure, Limits
from tidemark.sinks.wire import NO_JSON, as_json, from_json, read_answers, write_bodies
from tidemark.targets import is_fifo

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Source: SendMessageBatch, API reference: 1 MiB a message, and a request.
LIMITS = Limits(entries=10, batch_bytes=1_048_576, message_bytes=1_048_576)
# Source: the same. JSON escapes the other control characters by itself.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORBIDDEN_IN_JSON = {b"\xef\xbf\xbe": rb"\ufffe", b"\xef\xbf\xbf": rb"\uffff"}


class SqsTarget:
    """Sends to one queue."""

    limits = LIMITS
    asks_first = False
    permission = "sqs:SendMessage"

    def __init__(self, client: "SQSClient", target: str) -> None:
        write_bodies(client, "sqs.SendMessageBatch", "Entries", as_json)
        read_answers(client, "sqs.SendMessageBatch", from_json, NO_JSON)
        self._client = client
        self._url = queue_url(target, client.meta.endpoint_url)
        self.keeps_order = is_fifo(target)

    def entry(self, message: Message) -> tuple[dict[str, Any], int]:
        """The body and its attributes; both count."""
        body, (attributes, attribute_bytes) = allowed(message.body), string_attributes(message)
        values = {
            "Id": str(message.place),
            "MessageBody": body.decode(),
            "MessageAttributes": attributes,
        }
        if self.keeps_order:
            values |= fifo_values(message)
        return values, len(body) + attribute_bytes

    def send(self, entries: Entries) -> Answers:
        """One SendMessageBatch."""
        answer = self._client.send_message_batch(QueueUrl=self._url, Entries=list(entries))  # type: ignore[arg-type]
        return answers_by_id(entries, answer)


def queue_url(target: str, endpoint: str) -> str:
    """The URL of a queue given by its URL or ARN, at the client's own endpoint."""
    if not target.startswith("arn:"):
        return target
    account, name = target.split(":")[4:6]
    return f"{endpoint.rstrip('/')}/{account}/{name}"


def allowed(body: bytes) -> bytes:
    """A JSON body without the two characters that SQS forbids and JSON does not escape."""
    if body.isascii():
        return body
    for character, escape in _FORBIDDEN_IN_JSON.items():
        body = body.replace(character, escape)
    return body


def string_attributes(message: Message) -> tuple[dict[str, Any], int]:
    """A message's attributes as SQS and SNS want them, and their bytes as both count them."""
    attributes, size = {}, 0
    for name, value in message.attributes.items():
        text = value if value.isprintable() else _FORBIDDEN.sub("?", value)
        attributes[name] = {"DataType": "String", "StringValue": text}
        size += len(name) + len("String") + len(text.encode())
    return attributes, size


def fifo_values(message: Message) -> dict[str, str]:
    """What a FIFO queue or topic needs beside the message."""
    return {"MessageGroupId": message.group, "MessageDeduplicationId": message.change_id}


def answers_by_id(entries: Entries, answer: Any) -> Answers:
    """What an answer of SQS or SNS says of each entry; one that it does not name has failed."""
    taken = {each["Id"] for each in _told(answer, "Successful")}
    failed = {each["Id"]: _failure(each) for each in _told(answer, "Failed")}
    return [
        failed.get(entry["Id"]) or (None if entry["Id"] in taken else NO_ANSWER)
        for entry in entries
    ]


def _told(answer: Any, name: str) -> list[Mapping[str, Any]]:
    """The entries in one of an answer's lists, as far as they say of which they are."""
    told = answer.get(name) if isinstance(answer, Mapping) else None
    entries = told if isinstance(told, list) else []
    return [each for each in entries if isinstance(each, Mapping) and "Id" in each]


def _failure(each: Mapping[str, Any]) -> Failure:
    """A rejection is what both the service's flag and its code call the sender's fault."""
    code = plain(each.get("Code", "unknown"))
    return Failure(code, rejected=bool(each.get("SenderFault")) and code in REJECTIONS)
