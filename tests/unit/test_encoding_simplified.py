"""Simplified JSON: every row of the table in docs/encoding.md, and what the table cannot say."""

import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from bson.son import SON

from tidemark.encoding import decode, encode

TABLE = Path(__file__).parents[2] / "docs" / "encoding.md"
ROW = re.compile(r"^\| ([^|`]+) \| `(.+)` \| `(.+)` \|$", re.MULTILINE)
ROWS = [pytest.param(*row[1:], id=row[0]) for row in ROW.findall(TABLE.read_text("utf-8"))]
CROWD = {"number": float("inf"), "text": "\ud800"}  # neither can be written by the fast path


def simplified(value: Any, **beside: Any) -> Any:
    return json.loads(encode({"value": value, **beside}, "simplified"))["value"]


def test_the_table_is_found() -> None:
    assert len(ROWS) == 30


@pytest.mark.parametrize("beside", [{}, CROWD], ids=["fast", "exact"])
@pytest.mark.parametrize(("extended", "expected"), ROWS)
def test_a_row_of_the_table_is_written(
    extended: str, expected: str, beside: dict[str, Any]
) -> None:
    value = decode(f'{{"value":{extended}}}')["value"]
    assert repr(simplified(value, **beside)) == repr(json.loads(expected))


@pytest.mark.parametrize(("extended", "expected"), ROWS)
def test_a_row_is_spelled_the_same_at_any_depth(extended: str, expected: str) -> None:
    value = decode(f'{{"value":{extended}}}')["value"]
    assert repr(simplified([{"deep": value}, value])) == repr(
        [{"deep": json.loads(expected)}, json.loads(expected)]
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", id="native UUID"),
        pytest.param(b"\x00\x01\x02", "AAEC", id="bytes"),
        pytest.param(Binary(b"short", 4), "c2hvcnQ=", id="subtype 4 of another length"),
        pytest.param(2**53, "9007199254740992", id="plain int beyond 2^53"),
        pytest.param(-(2**53), "-9007199254740992", id="plain int beyond -2^53"),
        pytest.param(Int64(-(2**53) + 1), -9007199254740991, id="smallest exact integer"),
        pytest.param(DatetimeMS(0), "1970-01-01T00:00:00.000Z", id="DatetimeMS in range"),
        pytest.param(DatetimeMS(2**63 - 1), "9223372036854775807", id="last BSON date"),
        pytest.param(
            datetime(2024, 3, 12, 9, tzinfo=timezone(timedelta(hours=2))),
            "2024-03-12T07:00:00.000Z",
            id="another zone",
        ),
        pytest.param(datetime(1, 1, 1), "0001-01-01T00:00:00.000Z", id="first year"),
        pytest.param(re.compile("a", re.IGNORECASE), "/a/iu", id="Python's own pattern"),
        pytest.param(SON(a=Int64(2**62)), {"a": "4611686018427387904"}, id="SON"),
        pytest.param((1, float("nan")), [1, "NaN"], id="tuple"),
    ],
)
def test_what_extended_json_cannot_say_is_written(value: Any, expected: Any) -> None:
    assert repr(simplified(value)) == repr(expected)


def test_a_raw_document_is_written_as_a_document() -> None:
    raw = RawBSONDocument(bson.encode({"_id": Int64(1), "in": {"x": 2.5}}))
    assert json.loads(encode(raw, "simplified")) == {"_id": 1, "in": {"x": 2.5}}


def test_null_beside_a_not_a_number_stays_null() -> None:
    assert simplified([None, float("nan"), "null"]) == [None, "NaN", "null"]
