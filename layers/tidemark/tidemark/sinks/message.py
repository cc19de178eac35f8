"""What is sent of a change: a body, attributes to filter by, and what keeps its order; pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemark.encoding import encode
from tidemark.errors import PoisonChange
from tidemark.model import Change, Undecodable, change_id
from tidemark.settings import Group, SinkSettings

RESERVED = "tidemark"
TRACE = b'"tidemark":'  # how a field of that name begins, at whatever depth
_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24});Parent=([0-9a-f]{16});Sampled=1")


@dataclass(slots=True)  # not frozen, which would double the cost of making one
class Message:
    """One change, ready for any service.

    `place` is its index in the batch, `body` a JSON object, `group` 64 hex digits: changes of one
    group keep their order; empty where the service keeps none.
    """

    place: int
    change_id: str
    body: bytes
    attributes: Mapping[str, str]
    group: str


@dataclass(frozen=True, slots=True)
class Composer:
    """What `sink` sends of the changes of one stream."""

    stream: str
    sink: SinkSettings
    keeps_order: bool
    traceparent: str | None = None

    def message(self, change: Change, place: int) -> Message:
        """One change's. Raises PoisonChange for what cannot be written."""
        if isinstance(change, Undecodable):
            raise PoisonChange(f"cannot be decoded: {type(change.cause).__name__}")
        name, group = change_id(change), self.sink.group or "document"
        body = body_of(change, self.sink.body)
        if not isinstance(body, Mapping):  # a pipeline may put anything there
            kind = type(body).__name__
            raise PoisonChange(f"fullDocument is of type {kind}: only a document can be sent")
        return Message(
            place=place,
            change_id=name,
            body=encode(body, self.sink.encoding),
            attributes=attributes_of(change, self.stream, name, self.traceparent),
            group=group_of(change, self.stream, group) if self.keeps_order else "",
        )


def attributes_of(
    change: Change, stream: str, name: str, traceparent: str | None = None
) -> dict[str, str]:
    """What a subscription can filter by; what a change lacks, or has as no text, is left out."""
    values = {
        "stream": stream,
        "operationType": change.get("operationType"),
        "ns": namespace(change),
        "changeId": name,
        "traceparent": traceparent,
    }
    return {name: value for name, value in values.items() if value and isinstance(value, str)}


def namespace(change: Change) -> str:
    """`database.collection`, or `database`; empty where the change has none."""
    ns = change.get("ns")
    if not isinstance(ns, Mapping):
        return ""
    return ".".join(name for name in (ns.get("db"), ns.get("coll")) if isinstance(name, str))


def body_of(change: Change, body: str | tuple[str, ...]) -> Any:
    """The part of a change that is sent: all of it, its document, or the paths in `body`."""
    if body == "change":
        return change
    if body == "document":
        document = change.get("fullDocument")
        return without_document(change) if document is None else document
    return projected(change, [path.split(".") for path in body])


def without_document(change: Change) -> dict[str, Any]:
    """What stands for the document of a change that has none: a delete, an update, a drop."""
    named = "documentKey" if change.get("documentKey") else "ns"
    return {name: change[name] for name in (named, "operationType") if name in change}


def projected(document: Mapping[str, Any], paths: list[list[str]]) -> dict[str, Any]:
    """The paths of `document` that exist, nested as they were; arrays are not entered."""
    kept: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path in paths):
        deeper = [path[1:] for path in paths if path[0] == name]
        if name not in document:
            continue
        if [] in deeper:
            kept[name] = document[name]
        elif isinstance(document[name], Mapping) and (inner := projected(document[name], deeper)):
            kept[name] = inner
    return kept


def group_of(change: Change, stream: str, group: Group) -> str:
    """What keeps its order: SHA-256 of the namespace and document key, or of something wider.

    A change without a key, such as a drop, is of its namespace. What is hashed has a NUL between
    the two: no name holds one.
    """
    name = stream if group == "stream" else namespace(change)
    key = change.get("documentKey") if group == "document" else None
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
    if key:
        hashed.update(b"\0" + encode(key))
    return hashed.hexdigest()


def traceparent_of(xray: str | None) -> str | None:
    """The W3C trace context of an X-Ray trace header (`_X_AMZN_TRACE_ID`), if it is sampled."""
    match = _XRAY.search(xray or "")
    return f"00-{match[1]}{match[2]}-{match[3]}-01" if match else None


def with_attributes(message: Message) -> bytes:
    """The body with its attributes as a last key, `tidemark`: for services that have none.

    Raises PoisonChange where a document has a field of that name: a reader would see but one.
    """
    if TRACE in message.body and RESERVED in json.loads(message.body):
        raise PoisonChange(f"has a field {RESERVED!r}, which is the name of the attributes here")
    attributes = encode(message.attributes)
    comma = b"" if message.body == b"{}" else b","
    return b"%b%b%b%b}" % (message.body[:-1], comma, TRACE, attributes)
