"""A change is written as UTF-8 JSON in one of three modes, and means what `bson.json_util` means.

`relaxed` and `canonical` are MongoDB Extended JSON v2; `simplified` is plain JSON for readers who
do not speak it (`encoding_simplified.py`; table in docs/encoding.md).

Relaxed has a fast path. orjson writes what JSON has by itself and asks `json_util` for the rest,
so no BSON type is spelled here except the commonest two, dates and ObjectIds. Three things make the
answer differ from `json_util`; each is noticed and sends the whole change down the exact path,
which is `json_util`:

- orjson refuses: lone surrogates, 250 levels, integers beyond 64 bits, documents that are no dict;
- orjson writes NaN and the infinities as `null` without asking;
- orjson writes a `uuid.UUID` as a string without asking.

The last two are found by `encoding_unasked.py`. What was measured, and what was rejected:
docs/decisions/0002-encoder.md.
Source: https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import orjson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.tz_util import utc

from tidemark.encoding_simplified import encode_simplified
from tidemark.encoding_unasked import ASK_FIRST, wrote_unasked
from tidemark.errors import PoisonChange

EncodingMode: TypeAlias = Literal["relaxed", "canonical", "simplified"]

# A client told to decode UUIDs has lost the subtype; 4 is the one that the specification names.
_RELAXED: Final = json_util.RELAXED_JSON_OPTIONS.with_options(
    uuid_representation=UuidRepresentation.STANDARD
)
_CANONICAL: Final = json_util.CANONICAL_JSON_OPTIONS.with_options(
    uuid_representation=UuidRepresentation.STANDARD
)
# Reading, a UUID stays the Binary it was, and a date that Python cannot hold is a DatetimeMS.
_READING: Final = json_util.CANONICAL_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

_ISO_UTC: Final = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z

_REFUSALS: Final = (TypeError, ValueError, LookupError, ArithmeticError, RecursionError, BSONError)
_DEEPEST: Final = 100  # levels of a BSON document, by MongoDB's limit


def encode(change: Mapping[str, Any], mode: EncodingMode = "relaxed") -> bytes:
    """Write the change as UTF-8 JSON on one line.

    Raises PoisonChange for what the mode cannot hold; the message names the field's path and
    type, never its value (G8).
    """
    write = _WRITERS[mode]
    try:
        return write(change)
    except _REFUSALS:  # "from None": the cause's own message may quote the value
        raise PoisonChange(_refusal(change, write, mode)) from None


def decode(data: bytes | str) -> dict[str, Any]:
    """Read relaxed or canonical JSON back; what canonical gives back is equal as BSON.

    Relaxed does not say whether an integer was of 32 or 64 bits. Raises PoisonChange for anything
    that is not an Extended JSON document, without quoting it (G8).
    """
    try:
        document = json_util.loads(data, json_options=_READING)
    except (*_REFUSALS, AttributeError) as error:
        raise PoisonChange(f"not Extended JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise PoisonChange(f"not a document: {type(document).__name__}")
    return document


def _relaxed(change: Any) -> bytes:
    try:
        body = orjson.dumps(change, _extended, ASK_FIRST)
    except orjson.JSONEncodeError:
        return _exact(change, _RELAXED)
    return _exact(change, _RELAXED) if wrote_unasked(change, body) else body


def _canonical(change: Any) -> bytes:
    return _exact(change, _CANONICAL)


def _exact(change: Any, options: json_util.JSONOptions) -> bytes:
    """Ask `json_util`, which escapes all that is not ASCII: lone surrogates pass as they are."""
    return json_util.dumps(change, json_options=options, separators=(",", ":")).encode()


def _extended(value: Any) -> Any:
    """Spell what orjson does not know. Raises TypeError to demand the exact path."""
    kind = type(value)
    if kind is ObjectId:
        return {"$oid": str(value)}
    if kind is datetime and value.year >= 1970 and value.tzinfo in (None, utc):
        return _date(value)
    return json_util.default(value, _RELAXED)


def _date(value: datetime) -> orjson.Fragment:
    """`json_util`'s spelling of a UTC date, in a tenth of its time.

    orjson gives microseconds or no fraction; `json_util` cuts to milliseconds and leaves out .000.
    """
    quoted = orjson.dumps(value, None, _ISO_UTC)
    return orjson.Fragment(b'{"$date":%bZ"}' % quoted[: 24 if value.microsecond >= 1000 else 20])


def _refusal(change: Any, write: Callable[[Any], bytes], mode: EncodingMode) -> str:
    """Where the change cannot be written: follows the failing field down to the one at fault."""
    path: list[str] = []
    value = change
    while len(path) < _DEEPEST and (step := _failing_field(value, write)) is not None:
        path.append(step[0])
        value = step[1]
    place = ".".join(path) if path else "the change itself"
    return f"change cannot be written as {mode} JSON: {place} is of type {type(value).__name__}"


def _failing_field(value: Any, write: Callable[[Any], bytes]) -> tuple[str, Any] | None:
    try:
        fields = list(_fields(value))
    except _REFUSALS:  # a raw document that is not valid BSON: it is itself at fault
        return None
    return next(((str(name), held) for name, held in fields if not _writes(held, write)), None)


def _fields(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _writes(value: Any, write: Callable[[Any], bytes]) -> bool:
    try:
        write(value)
    except _REFUSALS:
        return False
    return True


_WRITERS: Final[Mapping[EncodingMode, Callable[[Any], bytes]]] = {
    "relaxed": _relaxed,
    "canonical": _canonical,
    "simplified": encode_simplified,
}
