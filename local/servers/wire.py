"""MongoDB's wire protocol, as far as a driver needs it to write and to follow a change stream.

Source: the MongoDB manual, "MongoDB Wire Protocol": OP_MSG, and the OP_QUERY of a driver's first
hello.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bson

if TYPE_CHECKING:
    import socket

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")  # length, request id, response to, opcode
LENGTH = struct.Struct("<i")
DOCUMENT, ARRAY = b"\x03", b"\x04"  # the types of BSON elements that hold others
MSG_FLAGS_AND_KIND = bytes(5)
MORE_TO_COME = 2  # a flag of OP_MSG: the driver waits for no answer
SEQUENCE = 1  # a section's kind: many documents, as one field of the command
REPLY_FIELDS = struct.pack("<iqii", 8, 0, 0, 1)  # await capable, no cursor, from 0, one document
SMALL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """One command of a driver."""

    request_id: int
    opcode: int
    command: dict[str, Any]
    is_answered: bool = True


def receive(connection: socket.socket) -> Request | None:
    """The next request; None where the peer has closed. Raises ConnectionError."""
    header = _exactly(connection, HEADER.size)
    if not header:
        return None
    length, request_id, _, opcode = HEADER.unpack(header)
    body = _exactly(connection, length - HEADER.size)
    start = 5 if opcode == OP_MSG else body.index(b"\0", 4) + 9  # flags, name, skip, limit
    end = start + LENGTH.unpack_from(body, start)[0]
    command = bson.decode(body[start:end])
    if opcode != OP_MSG:
        return Request(request_id, opcode, command)
    command |= _sequences(body, end)
    return Request(request_id, opcode, command, not LENGTH.unpack_from(body)[0] & MORE_TO_COME)


def send(connection: socket.socket, request: Request, answer: bytes | bytearray) -> None:
    """Answer `request` with one BSON document; a large one is not copied."""
    fields, opcode = MSG_FLAGS_AND_KIND, OP_MSG
    if request.opcode == OP_QUERY:
        fields, opcode = REPLY_FIELDS, OP_REPLY
    length = HEADER.size + len(fields) + len(answer)
    head = HEADER.pack(length, request.request_id, request.request_id, opcode) + fields
    if len(answer) < SMALL_BYTES:
        connection.sendall(head + answer)
    else:
        connection.sendall(head)
        connection.sendall(answer)


def document(*elements: bytes) -> bytes:
    """A BSON document of elements that are encoded already."""
    body = b"".join(elements)
    return LENGTH.pack(len(body) + 5) + body + b"\0"


def fields(values: dict[str, Any]) -> bytes:
    """The elements of a document, to be joined with others."""
    return bson.encode(values)[4:-1]


def array(documents: list[bytes]) -> bytes:
    """A BSON array of encoded documents."""
    return document(*(nested(str(n), one) for n, one in enumerate(documents)))


def nested(name: str, value: bytes, kind: bytes = DOCUMENT) -> bytes:
    """An element that holds an encoded document or array."""
    return b"".join((kind, name.encode(), b"\0", value))


def _sequences(body: bytes, start: int) -> dict[str, Any]:
    """The document sequences from `start` on, as the fields of the command that they stand for."""
    found = {}
    while start < len(body) and body[start] == SEQUENCE:
        end = start + 1 + LENGTH.unpack_from(body, start + 1)[0]
        name_end = body.index(b"\0", start + 5)
        documents = bson.decode_all(body[name_end + 1 : end])
        found[body[start + 5 : name_end].decode()] = documents
        start = end
    return found


def _exactly(connection: socket.socket, count: int) -> bytes:
    """`count` bytes; none where the peer has closed before the first."""
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part and not received:
            return b""
        if not part:
            raise ConnectionError("the peer closed in the middle of a message")
        received += part
    return bytes(received)
