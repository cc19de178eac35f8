"""An SNS topic as a target: standard, without an order, or FIFO, in order within a group."""

from typing import TYPE_CHECKING, Any

from tidemark.sinks.message import Message
from tidemark.sinks.sqs import allowed, answers_by_id, fifo_values, string_attributes
from tidemark.sinks.target import Answers, Entries, Limits
from tidemark.targets import is_fifo

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

# Source: PublishBatch, API reference: 256 KiB by default; a topic's MaximumMessageSize may be more.
LIMITS = Limits(entries=10, batch_bytes=262_144, message_bytes=262_144)


class SnsTarget:
    """Publishes to one topic."""

    limits = LIMITS
    permission = "sns:Publish"

    def __init__(self, client: "SNSClient", target: str) -> None:
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
