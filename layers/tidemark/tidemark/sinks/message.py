"""What is sent of a change: a body, attributes to filter by, and what keeps its order; pure."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemark.encoding import encode
from tidemark.errors import PoisonChange
from tidemark.model import Change, Undecodable, change_id
from tidemark.settings import SinkSettings

RESERVED = "tidemark"
_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24});Parent=([0-9a-f]{16});Sampled=1")


@dataclass(slots=True)  # not frozen, which would double the cost of making one
class Message:
    """One change, ready for any service.

    `place` is its index in the batch, `body` the JSON of `content`, `group` 64 hex digits: changes
    of one group keep their order; empty where the service keeps none.
    """

    place: int
    change_id: str
    content: Mapping[str, Any]
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
        content, name, ns = content_of(change, self.sink.body), change_id(change), namespace(change)
        return Message(
            place=place,
            change_id=name,
            content=content,
            body=encode(content, self.sink.encoding),
            attributes=self._attributes(change, name, ns),
            group=self._group(change, ns) if self.keeps_order else "",
        )

    def _attributes(self, change: Change, name: str, ns: str) -> dict[str, str]:
        """What a subscription can filter by; what is missing, or no text, is left out."""
        attributes = {"stream": self.stream, "changeId": name}
        operation = change.get("operationType")
        if operation and isinstance(operation, str):
            attributes["operationType"] = operation
        if ns:
            attributes["ns"] = ns
        if self.traceparent is not None:
            attributes["traceparent"] = self.traceparent
        return attributes

    def _group(self, change: Change, ns: str) -> str:
        """What keeps its order: the document, its namespace or the stream, as the sink says.

        A change without a key, such as a drop, is of its namespace.
        """
        if self.sink.group == "stream":
            return group_of(self.stream)
        return group_of(ns, None if self.sink.group == "namespace" else change.get("documentKey"))


def group_of(name: str, key: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of a name and, behind a NUL, which no name holds, of a document key."""
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
    if key:
        hashed.update(b"\0" + encode(key))
    return hashed.hexdigest()


def namespace(change: Change) -> str:
    """`database.collection`, or `database`; empty where the change has none, or no text there."""
    ns = change.get("ns")
    if not isinstance(ns, dict):
        return ""
    database, collection = ns.get("db"), ns.get("coll")
    if not isinstance(database, str):
        return ""
    return f"{database}.{collection}" if isinstance(collection, str) else database


def content_of(change: Change, body: str | tuple[str, ...]) -> Mapping[str, Any]:
    """The part of a change that is sent: all of it, its document, or the paths in `body`.

    Raises PoisonChange where a pipeline has put something else in the document's place.
    """
    if body == "change":
        return change
    if body == "document":
        return document_of(change)
    return projected(change, [path.split(".") for path in body])


def document_of(change: Change) -> Mapping[str, Any]:
    """The document of a change, or what stands for it."""
    document = change.get("fullDocument")
    if document is None:
        return without_document(change)
    if not isinstance(document, Mapping):
        kind = type(document).__name__
        raise PoisonChange(f"fullDocument is of type {kind}: only a document can be sent")
    return document


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


def traceparent_of(xray: str | None) -> str | None:
    """The W3C trace context of an X-Ray trace header (`_X_AMZN_TRACE_ID`), if it is sampled."""
    match = _XRAY.search(xray or "")
    return f"00-{match[1]}{match[2]}-{match[3]}-01" if match else None


def with_attributes(message: Message) -> bytes:
    """The body with its attributes as a last key, `tidemark`: for services that have none.

    Raises PoisonChange where a document has a field of that name: a reader would see but one.
    """
    if RESERVED in message.content:
        raise PoisonChange(f"has a field {RESERVED!r}, which is the name of the attributes here")
    attributes = encode(message.attributes)
    comma = b"" if message.body == b"{}" else b","
    return b'%b%b"%b":%b}' % (message.body[:-1], comma, RESERVED.encode(), attributes)
