"""A change as plain JSON, for readers who do not speak Extended JSON.

Made for reading, not for reading back: a string no longer says whether it was an ObjectId. Every
row of the table in docs/encoding.md is a row of `_SPELLINGS`.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import InvalidBSON
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from bson.tz_util import utc

from tidemark.encoding_unasked import ASK_FIRST, wrote_unasked

_LARGEST_EXACT: Final = 2**53 - 1  # JavaScript's Number.MAX_SAFE_INTEGER
_UUID_BYTES: Final = 16
# Beyond them orjson refuses, and the exact path spells the number as a string.
_OPTIONS: Final = ASK_FIRST | orjson.OPT_STRICT_INTEGER
_FLAGS: Final = {
    re.IGNORECASE: "i",
    re.LOCALE: "l",
    re.MULTILINE: "m",
    re.DOTALL: "s",
    re.UNICODE: "u",
    re.VERBOSE: "x",
}


def encode_simplified(change: Any) -> bytes:
    """Write the change as UTF-8 JSON on one line. Raises TypeError for a type that BSON lacks."""
    try:
        body = orjson.dumps(change, _simplified, _OPTIONS)
    except orjson.JSONEncodeError:
        return _exact(change)
    return _exact(change) if wrote_unasked(change, body) else body


def _exact(change: Any) -> bytes:
    return json.dumps(_simplified(change), allow_nan=False, separators=(",", ":")).encode()


def _simplified(value: Any) -> Any:
    """Spell the value, and everything in it, in JSON's own types."""
    spell = _SPELLINGS.get(type(value)) or _inherited_spelling(value)
    return spell(value)


def _inherited_spelling(value: Any) -> Callable[[Any], Any]:
    """Serve subclasses (SON, a user's own) and raw documents, which are a Mapping."""
    for base in type(value).__mro__:
        if base in _SPELLINGS:
            return _SPELLINGS[base]
    if isinstance(value, Mapping):
        return _document
    raise TypeError(f"{type(value).__name__} is not a BSON type")


def _same(value: Any) -> Any:
    return value


def _document(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _simplified(held) for name, held in value.items()}


def _array(value: Iterable[Any]) -> list[Any]:
    return [_simplified(held) for held in value]


def _integer(value: int) -> int | str:
    return int(value) if -_LARGEST_EXACT <= value <= _LARGEST_EXACT else str(int(value))


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _date(value: datetime) -> str:
    in_utc = value.astimezone(utc) if value.tzinfo else value
    return f"{in_utc.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _any_date(value: DatetimeMS) -> str | int:
    try:
        return _date(value.as_datetime())
    except InvalidBSON:  # before year 1 or after 9999: milliseconds since 1970
        return _integer(int(value))


def _binary(value: Binary) -> str:
    if value.subtype == UUID_SUBTYPE and len(value) == _UUID_BYTES:
        return str(value.as_uuid(UuidRepresentation.STANDARD))
    return _base64(value)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _timestamp(value: Timestamp) -> dict[str, int]:
    return {"t": value.time, "i": value.inc}


def _regex(value: Any) -> str:
    pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.decode()
    flags = "".join(letter for flag, letter in _FLAGS.items() if value.flags & flag)
    return f"/{pattern}/{flags}"


def _dbref(value: DBRef) -> dict[str, Any]:
    return _document(value.as_doc())


_SPELLINGS: Final[Mapping[type, Callable[[Any], Any]]] = {
    ObjectId: str,
    datetime: _date,
    Int64: _integer,
    Timestamp: _timestamp,
    Decimal128: str,
    Binary: _binary,
    bytes: _base64,
    UUID: str,
    DatetimeMS: _any_date,
    Regex: _regex,
    re.Pattern: _regex,
    Code: str,
    DBRef: _dbref,
    MinKey: lambda _: "MinKey",
    MaxKey: lambda _: "MaxKey",
    dict: _document,
    list: _array,
    tuple: _array,
    str: str,
    bool: _same,
    int: _integer,
    float: _double,
    type(None): _same,
}
