"""Relaxed and canonical mean what `bson.json_util` means, on every BSON type and edge."""

import json
import math
import re
import traceback
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import pytest
from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.son import SON
from bson.timestamp import Timestamp
from bson.tz_util import utc
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tidemark.encoding import EncodingMode, decode, encode
from tidemark.errors import PoisonChange

NATIVE_UUIDS: CodecOptions[dict[str, Any]] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD
)
TOLERANT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
NOT_BSON = (TypeError, ValueError, OverflowError, BSONError)
OPTIONS = {
    "relaxed": json_util.RELAXED_JSON_OPTIONS.with_options(
        uuid_representation=UuidRepresentation.STANDARD
    ),
    "canonical": json_util.CANONICAL_JSON_OPTIONS.with_options(
        uuid_representation=UuidRepresentation.STANDARD
    ),
}
EXTENDED: tuple[EncodingMode, ...] = ("relaxed", "canonical")
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=150, database=None)

# Naive or with bson's own UTC, as PyMongo gives them; other zones as a user's own code might.
ZONES = [None, utc, UTC, timezone(timedelta(hours=-9, minutes=-30))]
PLAIN_NAMES = st.text(st.characters(exclude_characters="$\0", codec="utf-8"), max_size=8)
NAMES = st.one_of(
    st.text(max_size=8), st.sampled_from(["$oid", "$date", "$numberLong", "$ref", "$x", "null"])
)
INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -1, 2**31 - 1, 2**31, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
)
DAYS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))
DATES = st.one_of(
    st.builds(lambda day, zone: day.replace(tzinfo=zone), DAYS, st.sampled_from(ZONES)),
    st.sampled_from([datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_999)]),
)
DECIMAL = r"-?[0-9]{1,20}(\.[0-9]{1,9})?(E-?[0-9]{1,3})?|NaN|-?Infinity"
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    INTEGERS.map(Int64),
    st.floats(allow_nan=False),
    st.just(math.nan),  # NaN's payload and sign are lost by Extended JSON itself
    st.text(),
    st.text(st.characters()),  # lone surrogates too
    st.binary(max_size=20),
    DATES,
    st.integers(-(2**63), 2**63 - 1).map(DatetimeMS),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Binary, st.binary(max_size=20), st.integers(0, 255)),
    st.from_regex(DECIMAL, fullmatch=True).map(Decimal128),
    st.builds(Regex, st.text(max_size=8), st.integers(0, 2**7 - 1)),
    st.builds(Code, st.text(max_size=8), st.none() | st.just({"x": math.nan})),
    st.sampled_from(
        [MinKey(), MaxKey(), re.compile("a.c", re.IGNORECASE | re.MULTILINE), re.compile(b"x")]
    ),
)

BREAKS_DBREF = {"collection", "id", "database", "items"}


def changes(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        fields = st.dictionaries(names, inner, max_size=4)
        # bson takes a reference's own fields as keyword arguments: these names break json_util.
        extras = fields.filter(lambda held: not held.keys() & BREAKS_DBREF)
        return st.one_of(
            fields,
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            fields.map(SON),
            st.builds(DBRef, st.text(max_size=4), inner, st.none() | st.just("db"), extras),
        )

    return st.dictionaries(names, st.recursive(LEAVES, containers, max_leaves=12), max_size=5)


def exactly(document: Any) -> Any:
    """Tell 1 from 1.0 from True, and -0.0 from 0.0; equality does not."""
    return json.dumps(document, sort_keys=False)


@pytest.mark.parametrize("mode", EXTENDED)
@given(change=changes(NAMES))
@REPEATABLE
def test_every_change_means_what_json_util_means(
    mode: EncodingMode, change: dict[str, Any]
) -> None:
    expected = json_util.dumps(change, json_options=OPTIONS[mode])
    assert exactly(json.loads(encode(change, mode))) == exactly(json.loads(expected))


@given(change=changes(PLAIN_NAMES))
@REPEATABLE
def test_canonical_comes_back_as_equal_bson(change: dict[str, Any]) -> None:
    """G1: a dead letter can be delivered again as it was. (Names with `$` are ambiguous)."""
    try:
        stored = bson.encode(change, codec_options=NATIVE_UUIDS)
    except NOT_BSON:
        reject()  # lone surrogates, NUL in a pattern
    document = bson.decode(stored, codec_options=TOLERANT)
    assert bson.encode(decode(encode(document, "canonical"))) == bson.encode(document)


@pytest.mark.parametrize("mode", EXTENDED)
@pytest.mark.parametrize("depth", [100, 253, 300])
def test_deep_nesting_is_written(mode: EncodingMode, depth: int) -> None:
    change: dict[str, Any] = {"leaf": Int64(1)}
    for _ in range(depth):
        change = {"in": [change]} if depth == 100 else {"in": change}
    expected = json_util.dumps(change, json_options=OPTIONS[mode])
    assert json.loads(encode(change, mode)) == json.loads(expected)


EDGES = [
    pytest.param(value, id=name)
    for name, value in {
        "minus zero": -0.0,
        "huge double": 1e300,
        "whole double": 1.0,
        "smallest double": 5e-324,
        "uint64": 2**64 - 1,
        "beyond 64 bits": 2**70,
        "lone surrogate": "\ud83d",
        "lone surrogate as a name": {"\udc00": 1},
        "escapes": '\x00\x1f"\\/\u2028\x7f',
        "astral": "🦉",
        "null as text": ["null", None],
        "NaN beside null": [None, math.nan],
        "NaN in a tuple in a list": [(math.nan,)],
        "UUID as text": str(uuid.UUID(int=7)),
        "UUID beside its text": [str(uuid.UUID(int=7)), uuid.UUID(int=7)],
        "UUID in a tuple": ((uuid.UUID(int=7),),),
        "numeric names": {1: "a", "b": 2},
        "user's str": type("Name", (str,), {})("x"),
        "user's float": type("Ratio", (float,), {})(0.5),
        "user's float, infinite": type("Ratio", (float,), {})("inf"),
        "user's dict": type("Order", (dict,), {})(a=math.nan),
        "date in year 1": datetime(1, 1, 1),
        "date without milliseconds": datetime(2024, 1, 1, 0, 0, 0, 999),
        "date with bson's zone": datetime(2024, 1, 1, tzinfo=utc),
        "date with Python's zone": datetime(2024, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC),
        "date with another zone": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        "date before 1970 by its zone": datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        "last date of Python": datetime(9999, 12, 31, 23, 59, 59, 999_999),
        "first date beyond Python": DatetimeMS(253_402_300_800_000),
        "first and last date of BSON": [DatetimeMS(-(2**63)), DatetimeMS(2**63 - 1)],
        "scope with everything": Code("f", {"n": math.nan, "u": uuid.UUID(int=1), "i": Int64(1)}),
        "DBRef with NaN": DBRef("c", math.nan, "d", extra=uuid.UUID(int=2)),
        "set": {1},
        "DBRef in a raw document": RawBSONDocument(
            bson.encode({"r": DBRef("c", 1), "n": math.nan})
        ),
        "operator": {"$set": {"$oid": 5}},
    }.items()
]


@pytest.mark.parametrize("mode", EXTENDED)
@pytest.mark.parametrize("value", EDGES)
def test_an_edge_means_what_json_util_means(mode: EncodingMode, value: Any) -> None:
    for change in ({"value": value}, {"list": [{"value": value}]}):
        expected = json_util.dumps(change, json_options=OPTIONS[mode])
        assert exactly(json.loads(encode(change, mode))) == exactly(json.loads(expected))


@pytest.mark.parametrize("mode", EXTENDED)
def test_of_duplicate_names_the_last_counts_as_in_the_driver(mode: EncodingMode) -> None:
    twice = bytes.fromhex("13000000106100010000001061000200000000")
    raw = RawBSONDocument(twice)
    expected = json_util.dumps(raw, json_options=OPTIONS[mode])
    assert json.loads(encode(raw, mode)) == json.loads(expected)
    assert decode(encode(raw, mode)) == {"a": 2}


def test_text_goes_out_as_utf8_on_the_fast_path() -> None:
    assert encode({"name": "é"}) == '{"name":"é"}'.encode()


class Unwritable:
    """Its text must appear nowhere."""

    def __repr__(self) -> str:
        return "secret-value"


@pytest.mark.parametrize("mode", ["relaxed", "canonical", "simplified"])
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (
            {"ok": 1, "doc": {"items": [1, {"x": Unwritable()}]}},
            "doc.items.1.x is of type Unwritable",
        ),
        ({"doc": {b"secret-value": 1}}, "doc is of type dict"),
        ({b"secret-value": 1}, "the change itself is of type dict"),
        ({"re": re.compile(b"secret-value\xff")}, "re is of type Pattern"),
        ({"doc": RawBSONDocument(b"\x05\x00\x00\x00\x00")}, None),
    ],
    ids=["object", "bytes as a name", "bytes as a name on top", "pattern that is no text", "raw"],
)
def test_what_cannot_be_written_is_named_without_its_value(
    mode: EncodingMode, change: dict[Any, Any], place: str | None
) -> None:
    """G8: the path and the type, never the value, in the message or its chain."""
    if place is None:
        assert encode(change, mode) == b'{"doc":{}}'
        return
    with pytest.raises(PoisonChange) as raised:
        encode(change, mode)
    assert str(raised.value) == f"change cannot be written as {mode} JSON: {place}"
    assert "secret-value" not in "".join(traceback.format_exception(raised.value, limit=0))


@pytest.mark.parametrize(
    "data",
    [b"[1]", b"secret", b"\xff\xfe", '{"a":{"$oid":"secret"}}', '{"a":{"$date":"secret"}}', "5"],
)
def test_what_is_not_extended_json_is_refused_without_quoting_it(data: bytes | str) -> None:
    """G8: nor does its chain quote it."""
    with pytest.raises(PoisonChange) as raised:
        decode(data)
    assert "secret" not in "".join(traceback.format_exception(raised.value, limit=0))


def test_a_date_that_python_cannot_hold_comes_back() -> None:
    assert decode(encode({"at": DatetimeMS(2**62)}, "canonical")) == {"at": DatetimeMS(2**62)}
