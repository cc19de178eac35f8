"""The time inside a resume token: MongoDB's, and None of all else (G12)."""

from __future__ import annotations

from typing import Any

import pytest
from bson.binary import Binary
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tidemark.mongodb.token_time import time_of

PUBLISHED = {
    # MongoDB manual, "Change Streams" (7.0), and a shell's answer to an insert (6.0), each with its
    # own clusterTime; a post-batch token of an Atlas cluster, whose time no page tells beside it.
    "8262E2EE54000000022B022C0100296E5A100448E5E3DD01364019AE8FE8C6859527E046645F6964006462E2EE54"
    "C8756C0D5CF6F0720004": Timestamp(1659039316, 2),
    "8263A81537000000012B022C0100296E5A1004199BDC9429644781918CE46FDC2C0DFF46645F6964006463A81537"
    "C7C3F623FD5BC92E0004": Timestamp(1671959863, 1),
    "82645D05F8000000012B0229296E04": Timestamp(1683817976, 1),
}
DOCUMENTDB = "015daf94f600000002010000000200009025"  # developer guide, "Using change streams"


@pytest.mark.parametrize("data", PUBLISHED)
def test_a_published_token_has_the_time_of_its_event(data: str) -> None:
    assert time_of({"_data": data}) == PUBLISHED[data]


def test_lower_case_digits_are_digits() -> None:
    [data, *_] = PUBLISHED
    assert time_of({"_data": data.lower()}) == PUBLISHED[data]


def test_a_token_of_documentdb_has_no_known_time() -> None:
    """Although it looks like one: its form is not published."""
    assert time_of({"_data": DOCUMENTDB}) is None


@pytest.mark.parametrize(
    "token",
    [
        {},
        {"another": 1},
        {"_data": None},
        {"_data": 82},
        {"_data": Binary(b"\x82" * 20)},  # of MongoDB 3.6
        {"_data": ""},
        {"_data": "82"},
        {"_data": "8262E2EE540000000"},  # a digit short
        {"_data": "82no digits, long enough"},
        {"_data": "82-2E2EE5400000002"},
        {"_data": "9962E2EE5400000002"},
    ],
    ids=str,
)
def test_what_is_no_token_of_mongodbs_has_no_time(token: dict[str, Any]) -> None:
    """G12: unknown is not 0."""
    assert time_of(token) is None


@pytest.mark.parametrize("digits", ["+2E2EE54", " 2E2EE54", "6_E2EE54", "٦٢٦٢٦٢٦٢"])
def test_what_only_python_takes_for_digits_has_no_time(digits: str) -> None:
    assert time_of({"_data": f"82{digits}00000002"}) is None


@given(
    st.dictionaries(st.sampled_from(["_data", "_typeBits"]), st.none() | st.text() | st.binary())
)
def test_it_never_raises(token: dict[str, Any]) -> None:
    """It is asked in the middle of a run, of whatever a server sends."""
    assert isinstance(time_of(token), Timestamp | None)


@given(st.from_regex(r"82[0-9A-Fa-f_+\- ]{16,}", fullmatch=True))
def test_it_never_raises_at_what_looks_like_a_token(data: str) -> None:
    assert isinstance(time_of({"_data": data}), Timestamp | None)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.text("0123456789ABCDEF"))
def test_every_time_is_read_back(seconds: int, increment: int, rest: str) -> None:
    data = f"82{seconds:08X}{increment:08X}{rest}"
    assert time_of({"_data": data}) == Timestamp(seconds, increment)
