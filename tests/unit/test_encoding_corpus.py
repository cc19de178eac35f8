"""Every BSON type as bytes, as canonical and as relaxed Extended JSON, by the specification.

The published cases are run by test_encoding_published.py; here are the types that they leave out
and the edges of each, to be read. A row is one element named `v`: type byte and payload, in hex.
Source: https://bsonspec.org/spec.html and MongoDB's Extended JSON specification.
"""

import json
from typing import Any, NamedTuple

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion

from tidemark.encoding import decode, encode

READING: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class Case(NamedTuple):
    kind: str  # the type byte
    payload: str
    canonical: str
    relaxed: str | None = None  # None: as canonical
    comes_back: bool = True  # False: PyMongo itself reads the type as its successor


OID = "00112233445566778899aabb"
OID_JSON = f'{{"$oid":"{OID}"}}'
BYTES_16 = "000102030405060708090a0b0c0d0e0f"
BASE64_16 = "AAECAwQFBgcICQoLDA0ODw=="


def double(payload: str, text: str, relaxed: str | None = None) -> Case:
    wrapped = f'{{"$numberDouble":"{text}"}}'
    return Case("01", payload, wrapped, relaxed or wrapped)


def binary(subtype: str, payload: str, base64: str) -> Case:
    json_text = f'{{"$binary":{{"base64":"{base64}","subType":"{subtype}"}}}}'
    return Case("05", payload, json_text)


def date(payload: str, ms: int, relaxed: str | None = None) -> Case:
    wrapped = f'{{"$date":{{"$numberLong":"{ms}"}}}}'
    return Case("09", payload, wrapped, f'{{"$date":"{relaxed}"}}' if relaxed else wrapped)


def regex(payload: str, pattern: str, options: str) -> Case:
    inner = json.dumps({"pattern": pattern, "options": options})
    return Case("0b", payload, f'{{"$regularExpression":{inner}}}')


def integer(kind: str, payload: str, value: int) -> Case:
    name = {"10": "$numberInt", "12": "$numberLong"}[kind]
    return Case(kind, payload, f'{{"{name}":"{value}"}}', str(value))


def decimal(payload: str, text: str) -> Case:
    return Case("13", payload, f'{{"$numberDecimal":"{text}"}}')


CASES = {
    "double 2.5": double("0000000000000440", "2.5", "2.5"),
    "double -2.5": double("00000000000004c0", "-2.5", "-2.5"),
    "double whole": double("0000000000000840", "3.0", "3.0"),
    "double large": double("9c7500883ce4377e", "1e+300", "1e300"),
    "double zero": double("0000000000000000", "0.0", "0.0"),
    "double minus zero": double("0000000000000080", "-0.0", "-0.0"),
    "double NaN": double("000000000000f87f", "NaN"),
    "double infinity": double("000000000000f07f", "Infinity"),
    "double minus infinity": double("000000000000f0ff", "-Infinity"),
    "string empty": Case("02", "0100000000", '""'),
    "string ASCII": Case("02", "03000000686900", '"hi"'),
    "string two bytes a letter": Case("02", "03000000c3a900", '"\\u00e9"'),
    "string three bytes a letter": Case("02", "04000000e2988600", '"☆"'),
    "string four bytes a letter": Case("02", "05000000f09fa68900", '"🦉"'),
    "string with NUL": Case("02", "0400000061006200", '"a\\u0000b"'),
    "string with escapes": Case("02", "05000000225c2f0a00", '"\\"\\\\/\\n"'),
    "document empty": Case("03", "0500000000", "{}"),
    "document with an empty name": Case("03", "0800000008000100", '{"":true}'),
    "document with a dotted name": Case("03", "0a0000000a612e620000", '{"a.b":null}'),
    "document with an operator's name": Case(
        "03", "120000000224747970650002000000730000", '{"$type":"s"}'
    ),
    "DBRef": Case(
        "03",
        f"220000000224726566000200000063000724696400{OID}00",
        f'{{"$ref":"c","$id":{OID_JSON}}}',
    ),
    "DBRef with database and more": Case(
        "03",
        "2c00000002247265660002000000630010246964002a0000000224646200020000006400086d6f7265000100",
        '{"$ref":"c","$id":{"$numberInt":"42"},"$db":"d","more":true}',
        '{"$ref":"c","$id":42,"$db":"d","more":true}',
    ),
    "array empty": Case("04", "0500000000", "[]"),
    "array of two": Case("04", "0c000000083000010a310000", "[true,null]"),
    "binary empty": binary("00", "0000000000", ""),
    "binary generic": binary("00", "0200000000abcd", "q80="),
    "binary function": binary("01", "0200000001abcd", "q80="),
    "binary old": binary("02", "060000000202000000abcd", "q80="),
    "binary old UUID": binary("03", "1000000003" + BYTES_16, BASE64_16),
    "binary UUID": binary("04", "1000000004" + BYTES_16, BASE64_16),
    "binary MD5": binary("05", "1000000005" + BYTES_16, BASE64_16),
    "binary encrypted": binary("06", "0200000006abcd", "q80="),
    "binary column": binary("07", "0200000007abcd", "q80="),
    "binary sensitive": binary("08", "0200000008abcd", "q80="),
    "binary vector": binary("09", "04000000090300abcd", "AwCrzQ=="),
    "binary user-defined": binary("80", "0200000080abcd", "q80="),
    "undefined": Case("06", "", "null", comes_back=False),
    "ObjectId": Case("07", OID, OID_JSON),
    "true": Case("08", "01", "true"),
    "false": Case("08", "00", "false"),
    "date at the epoch": date("0000000000000000", 0, "1970-01-01T00:00:00Z"),
    "date with milliseconds": date("d304000000000000", 1235, "1970-01-01T00:00:01.235Z"),
    "date before 1970": date("ffffffffffffffff", -1),
    "date at the end of 9999": date(
        "ffdb1fd277e60000", 253402300799999, "9999-12-31T23:59:59.999Z"
    ),
    "date after 9999": date("00dc1fd277e60000", 253402300800000),
    "date at the end": date("ffffffffffffff7f", 2**63 - 1),
    "null": Case("0a", "", "null"),
    "regex empty": regex("0000", "", ""),
    "regex": regex("610000", "a", ""),
    "regex with flags": regex("6100696d737800", "a", "imsx"),
    "regex with a slash and a quote": regex("2f22006900", '/"', "i"),
    "DBPointer": Case(
        "0c", "020000006300" + OID, f'{{"$ref":"c","$id":{OID_JSON}}}', comes_back=False
    ),
    "code": Case("0d", "020000006600", '{"$code":"f"}'),
    "code, not ASCII": Case("0d", "03000000c3a900", '{"$code":"é"}'),
    "symbol": Case("0e", "020000007300", '"s"', comes_back=False),
    "code with empty scope": Case(
        "0f", "0f0000000200000066000500000000", '{"$code":"f","$scope":{}}'
    ),
    "code with scope": Case(
        "0f",
        "160000000200000066000c0000001078000100000000",
        '{"$code":"f","$scope":{"x":{"$numberInt":"1"}}}',
        '{"$code":"f","$scope":{"x":1}}',
    ),
    "int32 least": integer("10", "00000080", -(2**31)),
    "int32 greatest": integer("10", "ffffff7f", 2**31 - 1),
    "int32 zero": integer("10", "00000000", 0),
    "timestamp": Case("11", "0300000015000000", '{"$timestamp":{"t":21,"i":3}}'),
    "timestamp greatest": Case(
        "11", "ffffffffffffffff", '{"$timestamp":{"t":4294967295,"i":4294967295}}'
    ),
    "int64 least": integer("12", "0000000000000080", -(2**63)),
    "int64 greatest": integer("12", "ffffffffffffff7f", 2**63 - 1),
    "int64 small": integer("12", "0100000000000000", 1),
    "decimal 0.1": decimal("01000000000000000000000000003e30", "0.1"),
    "decimal with a trailing zero": decimal("0a000000000000000000000000003c30", "0.10"),
    "decimal minus zero": decimal("000000000000000000000000000040b0", "-0"),
    "decimal NaN": decimal("0000000000000000000000000000007c", "NaN"),
    "decimal infinity": decimal("00000000000000000000000000000078", "Infinity"),
    "decimal minus infinity": decimal("000000000000000000000000000000f8", "-Infinity"),
    "decimal greatest": decimal("ffffffff638e8d37c087adbe09edff5f", f"{'9.' + 33 * '9'}E+6144"),
    "MinKey": Case("ff", "", '{"$minKey":1}'),
    "MaxKey": Case("7f", "", '{"$maxKey":1}'),
}


def document_of(case: Case) -> bytes:
    element = bytes.fromhex(f"{case.kind}7600{case.payload}")
    return (len(element) + 5).to_bytes(4, "little") + element + b"\0"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_type_is_written_as_the_specification_says(case: Case) -> None:
    change = bson.decode(document_of(case), codec_options=READING)
    relaxed = case.relaxed or case.canonical
    assert repr(json.loads(encode(change, "canonical"))) == repr({"v": json.loads(case.canonical)})
    assert repr(json.loads(encode(change, "relaxed"))) == repr({"v": json.loads(relaxed)})


RETURNING = {name: case for name, case in CASES.items() if case.comes_back}


@pytest.mark.parametrize("case", RETURNING.values(), ids=RETURNING)
def test_canonical_comes_back_as_the_same_bytes(case: Case) -> None:
    """G1: what was dead-lettered can be delivered again."""
    change = bson.decode(document_of(case), codec_options=READING)
    assert bson.encode(decode(encode(change, "canonical"))) == document_of(case)
