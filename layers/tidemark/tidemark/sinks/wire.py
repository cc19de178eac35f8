"""The body of a bulk request, written by orjson and handed to botocore through its own events.

botocore walks every field of every entry in Python to write what orjson writes at once. Signing,
endpoints, timeouts, retries and answers stay the SDK's; only the bytes are ours:

    before-parameter-build   the entries step aside, into the request's context
    before-call              the body is replaced by one that holds them

Measured, and what was rejected: docs/decisions/0020-sinks-through-the-sdk.md.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson

Entries: TypeAlias = Sequence[Mapping[str, Any]]
Write: TypeAlias = Callable[[Mapping[str, Any], Entries], bytes]  # the other parameters, entries

# Of AWS's query protocol: all but RFC 3986's unreserved characters, the percent sign first.
_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_RESERVED = ["%", *sorted({chr(code) for code in range(128)} - {*_UNRESERVED, "%"})]
_ESCAPES = {character: f"%{ord(character):02X}" for character in _RESERVED}

ASIDE = "tidemark_entries"
WRITING = "tidemark"  # a client writes its bodies so once, however often it is asked


def write_bodies(client: Any, operation: str, entries: str, write: Write) -> None:
    """From now on `client` sends `operation` with the body that `write` makes.

    `operation` as in `sqs.SendMessageBatch`, `entries` the name of the parameter that holds them.
    """

    def step_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
        context[ASIDE] = params, params[entries]
        return params | {entries: params[entries][:1]}  # one, for those who validate

    def replace_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        given, stepped_aside = context.pop(ASIDE)
        params["body"] = write(given, stepped_aside)

    events = client.meta.events
    events.register(f"provide-client-params.{operation}", step_aside, f"{WRITING}-entries")
    events.register(f"before-call.{operation}", replace_body, f"{WRITING}-body")


def as_json(given: Mapping[str, Any], entries: Entries) -> bytes:  # noqa: ARG001 - they are in it
    """The parameters as they are: what AWS's JSON protocols send."""
    return orjson.dumps(given)


def quoted(text: str) -> str:
    """As a value of the query protocol: what `urllib.parse.quote` gives, in a fifth of its time.

    It looks at each character in Python; here each kind of character is one pass in C.
    """
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text if text.isascii() else quote(text, safe=_UNRESERVED + "%")
