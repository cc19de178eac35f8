"""The body of a bulk request and of its answer, taken over from botocore through its own events.

botocore walks every field of every entry in Python to write and to read what orjson writes and
reads at once. Signing, endpoints, timeouts, retries and errors stay the SDK's:

    provide-client-params   the entries step aside, into the request's context; a shape of one stays
    before-call             the body is replaced by one that holds them; the host is named, which
                            the signature would otherwise take out of the URL twice
    before-parse            what an answer of success says is read, and stands in it already

Measured, and what was rejected: docs/decisions/0020-sinks-through-the-sdk.md.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

Entries: TypeAlias = Sequence[Mapping[str, Any]]
Write: TypeAlias = Callable[[Mapping[str, Any], Entries], bytes]  # the other parameters, entries
Read: TypeAlias = Callable[[bytes], dict[str, Any] | None]

# Two bytes that UTF-8 never has stand for `=` and `&` until the values between them are quoted.
_IS, _AND = b"\xfe", b"\xff"
# All but RFC 3986's unreserved characters, the percent sign first.
_UNRESERVED = (string.ascii_letters + string.digits + "-._~").encode()
_RESERVED = [37, *(code for code in range(0xF5) if code != 37 and code not in _UNRESERVED)]
_ESCAPES = {bytes([code]): b"%%%02X" % code for code in _RESERVED}
_ASCII_ESCAPES = {byte: escape for byte, escape in _ESCAPES.items() if byte.isascii()}

SUCCESS = 200
IMPLIED_PORTS = {"http": 80, "https": 443}
NO_JSON = b"{}"
ASIDE = "tidemark_entries"
WRITING = "tidemark"  # a client writes its bodies so once, however often it is asked


def write_bodies(client: Any, operation: str, entries: str, write: Write) -> None:
    """From now on `client` sends `operation` with the body that `write` makes.

    `operation` as in `sqs.SendMessageBatch`, `entries` the name of the parameter that holds them.
    """

    def step_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
        context[ASIDE] = params, params[entries]
        return params | {entries: [_shape_of(params[entries][0])]}

    def replace_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        given, stepped_aside = context.pop(ASIDE)
        params["body"] = write(given, stepped_aside)
        params["headers"]["Host"] = host_of(params["url"])

    events = client.meta.events
    events.register(f"provide-client-params.{operation}", step_aside, f"{WRITING}-entries")
    events.register(f"before-call.{operation}", replace_body, f"{WRITING}-body")


def _shape_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The least that botocore takes for an entry: it is written, and perhaps validated, in vain."""
    return {name: value[:1] for name, value in entry.items() if isinstance(value, str | bytes)}


@cache
def host_of(url: str) -> str:
    """The host as HTTP names it: without the port that its scheme implies."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix(f":{IMPLIED_PORTS.get(parts.scheme)}")


def read_answers(client: Any, operation: str, read: Read, empty: bytes) -> None:
    """From now on what a success of `operation` answers is what `read` makes of its body.

    The SDK is left `empty`, the body of an answer that says nothing; or the whole answer, where it
    is no success or `read` gives None.
    """

    def stand_in(
        response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
    ) -> None:
        answer = read(response_dict["body"]) if response_dict["status_code"] == SUCCESS else None
        if answer is not None:
            customized_response_dict.update(answer)
            response_dict["body"] = empty

    client.meta.events.register(f"before-parse.{operation}", stand_in, f"{WRITING}-answer")


def from_json(body: bytes) -> dict[str, Any] | None:
    """The object of an answer, names and types as sent, without nulls; None of what is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    return {name: value for name, value in answer.items() if value is not None}


def as_json(given: Mapping[str, Any], entries: Entries) -> bytes:  # noqa: ARG001 - they are in it
    """The parameters as they are: what AWS's JSON protocols send."""
    return orjson.dumps(given)


def as_form(pairs: Sequence[tuple[str, str]]) -> bytes:
    """The body of AWS's query protocol, quoted as `urllib.parse.quote` does it.

    That looks at each character in Python; here each kind of byte of the whole body is one pass in
    C, which takes a seventh of its time.
    """
    body = _AND.join([name.encode() + _IS + value.encode() for name, value in pairs])
    is_ascii = all(name.isascii() and value.isascii() for name, value in pairs)
    for byte, escape in (_ASCII_ESCAPES if is_ascii else _ESCAPES).items():
        body = body.replace(byte, escape)
    return body.replace(_IS, b"=").replace(_AND, b"&")
