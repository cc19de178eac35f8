"""Relaxed and canonical mean what `bson.json_util` means, on every BSON type and edge."""

import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.son import SON
from bson.timestamp import Timestamp
from bson.tz_util import utc
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.encoding import EncodingMode, encode

OPTIONS = {
    "relaxed": json_util.RELAXED_JSON_OPTIONS.with_options(
        uuid_representation=UuidRepresentation.STANDARD
    ),
    "canonical": json_util.CANONICAL_JSON_OPTIONS.with_options(
        uuid_representation=UuidRepresentation.STANDARD
    ),
}
EXTENDED: tuple[EncodingMode, ...] = ("relaxed", "canonical")
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=300, database=None)

# Naive or with bson's own UTC, as PyMongo gives them; other zones as a user's own code might.
ZONES = st.sampled_from([None, utc, UTC, timezone(timedelta(hours=-9, minutes=-30))])
NAMES = st.one_of(
    st.text(max_size=8), st.sampled_from(["$oid", "$date", "$numberLong", "$ref", "$x", "null"])
)
INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -1, 2**31 - 1, 2**31, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
)
DATES = st.one_of(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES),
    st.sampled_from([datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_999)]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    INTEGERS,
    INTEGERS.map(Int64),
    st.floats(),
    st.text(),
    st.text(st.characters()),  # lone surrogates too
    st.binary(max_size=20),
    DATES,
    st.integers(-(2**63), 2**63 - 1).map(DatetimeMS),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Binary, st.binary(max_size=20), st.integers(0, 255)),
    st.decimals(allow_nan=True, allow_infinity=True, places=3).map(Decimal128),
    st.builds(Regex, st.text(max_size=8), st.integers(0, 2**7 - 1)),
    st.builds(Code, st.text(max_size=8), st.none() | st.just({"x": math.nan})),
    st.sampled_from([MinKey(), MaxKey(), re.compile("a.c", re.IGNORECASE | re.MULTILINE), re.compile(b"x")]),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(NAMES, inner, max_size=4)
    return st.one_of(
        fields,
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        fields.map(SON),
        st.builds(DBRef, st.text(max_size=4), inner, st.none() | st.just("db"), fields),
    )


CHANGES = st.dictionaries(NAMES, st.recursive(LEAVES, containers, max_leaves=12), max_size=5)


def exactly(document: Any) -> Any:
    """Tell 1 from 1.0 from True, and -0.0 from 0.0; equality does not."""
    return json.dumps(document, sort_keys=False)


@pytest.mark.parametrize("mode", EXTENDED)
@given(change=CHANGES)
@REPEATABLE
def test_every_change_means_what_json_util_means(
    mode: EncodingMode, change: dict[str, Any]
) -> None:
    expected = json_util.dumps(change, json_options=OPTIONS[mode])
    assert exactly(json.loads(encode(change, mode))) == exactly(json.loads(expected))
