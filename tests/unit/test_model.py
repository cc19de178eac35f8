"""The things Tidemark speaks of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import bson
import pytest
from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.int64 import Int64
from bson.timestamp import Timestamp

from tidemark.model import (
    Attempts,
    Batch,
    Position,
    RunSummary,
    StopReason,
    StreamSummary,
    change_id,
    parse_token,
    token_json,
)


def change(token: Any) -> dict[str, Any]:
    return {"_id": token, "operationType": "insert", "fullDocument": {"secret": "hunter2"}}


def test_a_change_id_is_the_sha_256_of_its_tokens_canonical_json() -> None:
    """G3: 64 hex digits, the same on every delivery and in every container."""
    expected = hashlib.sha256(b'{"_data": "82"}').hexdigest()

    assert change_id(change({"_data": "82"})) == expected


def test_a_change_id_depends_on_the_token_alone() -> None:
    same = {"_id": {"_data": "82"}, "operationType": "delete"}

    assert change_id(same) == change_id(change({"_data": "82"}))
    assert change_id(same) != change_id(change({"_data": "83"}))


@pytest.mark.parametrize(
    "token",
    [
        {"_data": "8265"},
        {"_data": Binary(b"\x82\x00")},
        {"_data": "82", "_typeBits": Binary(b"\x40")},
        {"n": Int64(2**40), "t": Timestamp(1, 2), "nested": {"a": [1, None]}},
    ],
)
def test_any_token_survives_its_storage(token: dict[str, Any]) -> None:
    """Tokens are opaque: whatever BSON they hold comes back as it was."""
    back = parse_token(token_json(token))

    assert bson.encode(back) == bson.encode(token)
    assert token_json(back) == token_json(token)


@pytest.mark.parametrize(
    "token",
    [
        *({"_data": text} for text in ("8265ABff", "", "é", "٣", 'a"b', "a\\b", "a b", "\ud800")),
        {"_data": Code("82")},
        {"_data": 82},
        {"data": "82"},
        {"_data": "82", "more": 1},
        {},
    ],
    ids=repr,
)
def test_a_token_is_written_as_json_util_writes_it(token: dict[str, Any]) -> None:
    """G3: a change id hashes this text; whoever else computes it must get the same."""
    assert token_json(token) == json_util.dumps(
        token, json_options=json_util.CANONICAL_JSON_OPTIONS
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '"82"', "null"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_token(text)


def test_a_batch_is_a_sequence_of_its_changes_in_order() -> None:
    changes = [change({"_data": str(number)}) for number in range(3)]
    batch = Batch("orders", changes, 7)

    assert list(batch) == changes
    assert (len(batch), batch[0], batch[-1]) == (3, changes[0], changes[2])
    assert changes[1] in batch
    assert batch.change_id(batch[1]) == change_id(changes[1])


def test_a_slice_of_a_batch_is_a_batch_of_the_same_stream() -> None:
    part = Batch("orders", [change({"_data": str(n)}) for n in range(3)], 7)[1:]

    assert isinstance(part, Batch)
    assert (len(part), part.stream, part.fencing_token) == (2, "orders", 7)


def test_a_batch_shows_no_document() -> None:
    """G8: in a log line or an assertion's message."""
    shown = repr(Batch("orders", [change({"_data": "82"})], 7))

    assert shown == "Batch(stream='orders', changes=1)"


@pytest.mark.parametrize("both", [{}, {"resume_token": {"_data": "1"}}])
def test_a_position_is_a_token_or_a_time(both: dict[str, Any]) -> None:
    time = Timestamp(1, 1) if both else None
    with pytest.raises(ValueError, match="either"):
        Position(operation_time=time, **both)


def test_a_positions_text_tells_a_move_and_nothing_of_the_token() -> None:
    one, other = Position(resume_token={"_data": "8265"}), Position(resume_token={"_data": "8266"})

    assert str(one) != str(other)
    assert "8265" not in str(one)
    assert str(one).startswith("token:")
    assert str(Position(operation_time=Timestamp(5, 6))) == "operation_time:5.6"


def test_attempts_belong_to_one_change() -> None:
    assert Attempts(3, "a").of("a") == 3
    assert Attempts(3, "a").of("b") == 0


def test_a_summary_is_json() -> None:
    summary = RunSummary(
        [
            StreamSummary("a", StopReason.CAUGHT_UP, changes=2, lag_ms=0),
            StreamSummary("b", error="DeliveryFailed: …"),
        ]
    )
    told = json.loads(json.dumps(summary.as_json()))

    assert told["streams"]["a"]["stop_reason"] == "caught_up"
    assert told["streams"]["a"]["changes"] == 2
    assert told["streams"]["b"]["stop_reason"] == "failed"
    assert "stream" not in told["streams"]["a"]
    assert [stream.stream for stream in summary.failed] == ["b"]
