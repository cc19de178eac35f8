"""The demo's verdict finds each way in which a promise can be broken."""

from __future__ import annotations

import dataclasses

import pytest

from demo_verdict import Delivery, Verdict, Write, judge

A, B, C = (Write("insert", name, 1) for name in "abc")


def _delivered(*writes: Write, token: int = 1) -> list[Delivery]:
    return [Delivery(write, f"id of {write.document}", token) for write in writes]


def test_all_delivered_once_and_in_order_after_two_kills_is_kept() -> None:
    verdict = judge([A, B, C], _delivered(A, B, C), kills=2)
    assert verdict.kept
    assert dataclasses.astuple(verdict) == (3, 3, 3, 0, 0, 0, 0, 0, 2)


def test_what_comes_again_after_a_crash_is_a_duplicate_and_allowed() -> None:
    deliveries = _delivered(A, B) + _delivered(B, C, token=2)
    verdict = judge([A, B, C], deliveries, kills=2)
    assert (verdict.duplicates, verdict.distinct, verdict.out_of_order) == (1, 3, 0)
    assert verdict.kept


@pytest.mark.parametrize(
    ("deliveries", "broken"),
    [
        (_delivered(A, C), {"lost": 1}),
        (_delivered(A, C, B), {"out_of_order": 1}),
        (_delivered(A, B, A, C), {"out_of_order": 1}),
        (_delivered(A, C) + _delivered(B, C, token=2), {"out_of_order": 1}),
        (_delivered(A, token=2) + _delivered(B, C, token=1), {"out_of_order": 2}),
        (_delivered(A, B, C, Write("insert", "d", 1)), {"never_written": 1}),
        (
            [*_delivered(A, B, C), Delivery(C, "another id", 2)],
            {"ambiguous": 1},
        ),
        (
            [*_delivered(A, B), Delivery(C, "id of a", 1)],
            {"ambiguous": 1},
        ),
    ],
    ids=[
        "lost",
        "swapped",
        "repeated by the same reader",
        "late after a crash",
        "a former holder delivers",
        "invented",
        "one change, two ids",
        "two changes, one id",
    ],
)
def test_a_broken_promise_is_found(deliveries: list[Delivery], broken: dict[str, int]) -> None:
    verdict = judge([A, B, C], deliveries, kills=2)
    names = ("lost", "out_of_order", "never_written", "ambiguous")
    assert {name: getattr(verdict, name) for name in names if getattr(verdict, name)} == broken
    assert not verdict.kept


@pytest.mark.parametrize(("written", "kills"), [(0, 2), (3, 1)])
def test_a_promise_that_was_not_put_to_the_test_is_not_kept(written: int, kills: int) -> None:
    writes = [A, B, C][:written]
    assert not judge(writes, _delivered(*writes), kills).kept


def test_the_same_version_of_a_document_is_told_from_its_deletion() -> None:
    writes = [A, Write("delete", "a", None)]
    verdict: Verdict = judge(writes, _delivered(A), kills=2)
    assert verdict.lost == 1
