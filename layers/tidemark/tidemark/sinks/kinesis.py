"""A Kinesis data stream as a target, in order within a group: the partition key is the group.

PutRecords promises no order inside a request, and goes on behind a record that failed. Order is
kept by what `outbox` sees to: one record of a group in a request, the next after the answer.
A record has no attributes: they are the last key, `tidemark`, of its data.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemark.sinks.message import Message, with_attributes
from tidemark.sinks.target import Answers, Entries, Limits, answers_by_place
from tidemark.sinks.wire import NO_JSON, as_json, from_json, read_answers, write_bodies

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

# Source: PutRecords, API reference: 10 MiB a request. A record may have as much only where the
# stream's MaxRecordSize says so; its default is 1 MiB.
LIMITS = Limits(entries=500, batch_bytes=10_485_760, message_bytes=1_048_576)


class KinesisTarget:
    """Puts records on one data stream."""

    limits = LIMITS
    keeps_order = True
    asks_first = False
    permission = "kinesis:PutRecords"

    def __init__(self, client: "KinesisClient", target: str) -> None:
        write_bodies(client, "kinesis.PutRecords", "Records", _as_json)
        read_answers(client, "kinesis.PutRecords", from_json, NO_JSON)
        self._client = client
        self._stream = {"StreamARN" if target.startswith("arn:") else "StreamName": target}

    def entry(self, message: Message) -> tuple[dict[str, Any], int]:
        """Data and partition key count."""
        data = with_attributes(message)
        return {"Data": data, "PartitionKey": message.group}, len(data) + len(message.group)

    def send(self, entries: Entries) -> Answers:
        """One PutRecords."""
        answer: Any = self._client.put_records(Records=list(entries), **self._stream)  # type: ignore[arg-type]
        return answers_by_place(answer, "Records", "SequenceNumber")


def _as_json(given: Mapping[str, Any], records: Entries) -> bytes:
    """As the JSON protocol has it: data in base64."""
    written = [
        {"Data": b64encode(each["Data"]).decode(), "PartitionKey": each["PartitionKey"]}
        for each in records
    ]
    return as_json({**given, "Records": written}, written)
