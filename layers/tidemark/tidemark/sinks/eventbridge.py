"""An EventBridge bus as a target; it keeps no order.

PutEvents reports success for a bus that does not exist and drops the events (aws-cli issue 9186):
each delivery asks for the bus first.

An event has no attributes: they are the last key, `tidemark`, of its detail. With `cloudevents` the
detail is a CloudEvent, whose `data` is the body.
"""

import json
from typing import TYPE_CHECKING, Any

from tidemark.settings import SinkSettings
from tidemark.sinks.message import Message, with_attributes
from tidemark.sinks.target import Answers, Entries, Limits, answers_by_place
from tidemark.sinks.wire import NO_JSON, as_json, from_json, read_answers, write_bodies

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

# Source: the user guide, "less than 256 KB" an entry and a request; the API reference says 1 MB.
LIMITS = Limits(entries=10, batch_bytes=262_143, message_bytes=262_143)
DETAIL_TYPE = "mongodb.{operationType}"
DETAIL_TYPE_LENGTH = 128
# Source: PutEvents, API reference, "Non-retryable errors"; the others there are the stack's fault.
REJECTIONS = {"InvalidArgument", "MalformedDetail", "RedactionFailure"}


class EventBridgeTarget:
    """Puts events on one bus."""

    limits = LIMITS
    keeps_order = False

    def __init__(self, client: "EventBridgeClient", sink: SinkSettings) -> None:
        write_bodies(client, "eventbridge.PutEvents", "Entries", as_json)
        read_answers(client, "eventbridge.PutEvents", from_json, NO_JSON)
        self._client = client
        self._bus = sink.target
        self._exists = False
        self._source = sink.source or "tidemark"
        self._detail_type = sink.detail_type or DETAIL_TYPE
        self._as_cloudevent = bool(sink.cloudevents)

    def entry(self, message: Message) -> tuple[dict[str, Any], int]:
        """Source, detail-type and detail count.

        Source: "Calculating PutEvents event entry size", user guide.
        """
        detail_type = self._type_of(message)
        if self._as_cloudevent:
            detail = cloudevent(message, self._source, detail_type)
        else:
            detail = with_attributes(message)
        values = {
            "Source": self._source,
            "DetailType": detail_type,
            "Detail": detail.decode(),
            "EventBusName": self._bus,
        }
        return values, len(self._source) + len(detail_type.encode()) + len(detail)

    @property
    def asks_first(self) -> bool:
        """Until the bus was found."""
        return not self._exists

    @property
    def permission(self) -> str:
        """Of two requests the one that comes next."""
        return "events:PutEvents" if self._exists else "events:DescribeEventBus"

    def send(self, entries: Entries) -> Answers | None:
        """One PutEvents; before the first, proof that there is a bus: one DescribeEventBus."""
        if not self._exists:
            self._client.describe_event_bus(Name=self._bus)
            self._exists = True
            return None
        answer = self._client.put_events(Entries=list(entries))  # type: ignore[arg-type]
        return answers_by_place(answer, "Entries", "EventId", REJECTIONS)

    def _type_of(self, message: Message) -> str:
        operation = message.attributes.get("operationType", "unknown")
        return self._detail_type.replace("{operationType}", operation)[:DETAIL_TYPE_LENGTH]


def cloudevent(message: Message, source: str, event_type: str) -> bytes:
    """A CloudEvent in its JSON format around the body.

    Source: CloudEvents 1.0.2, JSON event format. `stream` and `traceparent` are extensions.
    """
    attributes = message.attributes
    context = {
        "specversion": "1.0",
        "id": message.change_id,
        "source": source,
        "type": event_type,
        "subject": attributes.get("ns"),
        "stream": attributes["stream"],
        "traceparent": attributes.get("traceparent"),
        "datacontenttype": "application/json",
    }
    present = {name: value for name, value in context.items() if value}
    head = json.dumps(present, separators=(",", ":")).encode()
    return b'%b,"data":%b}' % (head[:-1], message.body)
