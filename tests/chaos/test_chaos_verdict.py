"""The chaos' verdict finds each way in which a promise can be broken, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from chaos_report import Report, Tally
from chaos_verdict import BROKEN, Evidence, Findings, Letter, Line, Stored, judge
from demo_verdict import Write

A, B, C, D = (Write("insert", name, 1) for name in "abcd")
# Two more of the document a.
A2, A3 = Write("update", "a", 2), Write("delete", "a", None)
FROZEN = 77


def _id(write: Write) -> str:
    return f"id of {write.document} {write.version}"


def _call(token: int, *writes: Write, name: str = "", pid: int = 1) -> list[Line]:
    name = name or f"call of {token} at {writes[0].document}"
    return [Line(write, _id(write), token, name, pid) for write in writes]


def _letter(write: Write) -> Letter:
    return Letter(write, _id(write), "Poison")


def _stored(token: int, write: Write) -> Stored:
    return Stored(token, _id(write))


def _found(lines: list[Line], **more: object) -> Findings:
    evidence = Evidence([A, B, C, D], lines, watched=[A, B, C, D])
    return judge(dataclasses.replace(evidence, **more))  # type: ignore[arg-type]


def _broken(findings: Findings) -> dict[str, int]:
    return {name: getattr(findings, name) for name in BROKEN if getattr(findings, name)}


def test_everything_delivered_once_and_in_order_is_kept() -> None:
    findings = _found(_call(1, A, B) + _call(1, C, D))
    assert not findings.broken
    assert (findings.written, findings.distinct, findings.duplicates) == (4, 4, 0)


def test_what_a_crash_brings_again_is_counted_and_allowed() -> None:
    """G3: the second reader begins behind the checkpoint of the first."""
    stored = [Stored(1, acquired=True), _stored(1, A), Stored(2, acquired=True)]
    findings = _found(_call(1, A, B, C) + _call(2, B, C, D), stored=stored)
    assert not findings.broken
    assert (findings.duplicates, findings.again) == (2, 2)


def test_a_retry_by_the_same_reader_is_no_duplicate_of_a_crash() -> None:
    findings = _found(_call(1, A, B) + _call(1, A, B, C, D, name="again"))
    assert not findings.broken
    assert (findings.duplicates, findings.again) == (2, 0)


def test_a_dead_letter_is_not_lost() -> None:
    """G1: set aside durably."""
    findings = _found(_call(1, A) + _call(1, C, D), letters=[_letter(B)])
    assert not findings.broken
    assert findings.dead_lettered == 1


def test_a_dead_letter_that_was_delivered_before_is_counted_and_allowed() -> None:
    """G1: its container was killed between the delivery and the checkpoint, too often."""
    findings = _found(_call(1, A, B) + _call(2, C, D), letters=[_letter(B)])
    assert not findings.broken
    assert (findings.distinct, findings.dead_lettered, findings.both) == (4, 1, 1)


def test_the_end_of_the_call_that_a_zombie_was_frozen_in_is_counted_and_allowed() -> None:
    """G4: nobody can reach into a running `deliver`."""
    begun, ended = _call(1, A, B, pid=FROZEN, name="call")[:1], _call(1, B, name="call", pid=FROZEN)
    findings = _found(begun + _call(2, A, B) + ended + _call(2, C, D), frozen={FROZEN})
    assert not findings.broken
    assert findings.late == 1


def test_what_watch_saw_in_the_same_order_is_kept_with_its_dead_letters() -> None:
    """A letter has no place among the deliveries; a duplicate counts once."""
    stream = [A, B, A2, A3]
    findings = judge(
        Evidence(
            stream,
            _call(1, A) + _call(1, A, name="again") + _call(1, A2, A3),
            [_letter(B)],
            watched=stream,
        )
    )
    assert not findings.unlike_watch
    assert findings.watched == 4


@pytest.mark.parametrize(
    ("delivered", "watched", "unlike"),
    [
        ([A, B, A2], [A, B, A2, A3], {"missing": 1}),
        ([A, B, A2, A3], [A, B, A2], {"surplus": 1}),
        ([A, A2, B], [A, A2, A2, B], {"missing": 1}),
        ([A, B, A3, A2], [A, B, A2, A3], {"reordered": 1}),
        ([A2, A, B], [A, A2], {"reordered": 1, "surplus": 1}),
        ([A, B, A2, A3], [], {"surplus": 4}),
    ],
    ids=["missing", "invented", "one of two", "turned round", "both", "an oracle that saw nothing"],
)
def test_a_difference_from_watch_is_found(
    delivered: list[Write], watched: list[Write], unlike: dict[str, int]
) -> None:
    """The writers' record agrees with what was delivered: only `watch()` knows better."""
    findings = judge(Evidence(delivered, _call(1, *delivered), watched=watched))
    assert _broken(findings) == unlike
    assert findings.unlike_watch == sum(unlike.values())


def test_two_documents_may_come_in_another_order_than_from_watch() -> None:
    findings = judge(Evidence([B, A, A2], _call(1, B, A, A2), watched=[A, B, A2]))
    assert not findings.broken


@pytest.mark.parametrize(
    ("lines", "more", "broken"),
    [
        (_call(1, A, B, C), {}, {"lost": 1, "missing": 1}),
        (_call(1, A) + _call(1, C, D) + _call(1, B), {}, {"out_of_order": 1}),
        (_call(1, A, C) + _call(2, B, C, D), {}, {"out_of_order": 2}),
        (_call(1, A, B, D) + _call(1, C), {}, {"out_of_order": 2}),
        (_call(1, B, A) + _call(1, C, D), {}, {"out_of_order": 2}),
        (
            _call(1, A, B, C, D, Write("insert", "e", 1)),
            {},
            {"never_written": 1, "surplus": 1},
        ),
        (
            [*_call(1, A, B, C, D), Line(D, "another id", 2, "again", 1)],
            {},
            {"ambiguous": 1, "surplus": 1},
        ),
        (
            _call(1, A, B, C, D),
            {"letters": [Letter(D, _id(A), "Poison")]},
            {"ambiguous": 2, "surplus": 1},
        ),
        (
            _call(1, A, B, C) + _call(2, B, C, D),
            {"stored": [_stored(1, B)]},
            {"behind_checkpoint": 1},
        ),
        (
            _call(1, A, B, C, D),
            {"stored": [Stored(1, acquired=True), Stored(2, acquired=True), _stored(1, D)]},
            {"taken_from_former": 1},
        ),
        (
            _call(1, A) + _call(2, A, B) + _call(1, B) + _call(2, C, D),
            {},
            {"late_calls": 1},
        ),
        (
            _call(1, A, pid=FROZEN)
            + _call(2, A, B, C)
            + _call(1, B, pid=FROZEN)
            + _call(1, C, pid=FROZEN)
            + _call(2, D),
            {"frozen": {FROZEN}},
            {"late_calls": 1},
        ),
    ],
    ids=[
        "lost",
        "late",
        "skipped until after a crash",
        "late within a reader",
        "turned round",
        "invented",
        "one change, two ids",
        "two changes, one id",
        "again behind the checkpoint",
        "a former holder's checkpoint",
        "a former reader that nobody froze",
        "a zombie that began another call",
    ],
)
def test_a_broken_promise_is_found(
    lines: list[Line], more: dict[str, object], broken: dict[str, int]
) -> None:
    assert _broken(_found(lines, **more)) == broken


KEPT = _found(_call(1, A, B, C, D))
TALLY = Tally(3, 1, 9, 0, 0, 0, 0, 0, 4, 0, 1.0)


@pytest.mark.parametrize(
    ("report", "kept"),
    [
        (Report(TALLY, KEPT, []), True),
        (Report(dataclasses.replace(TALLY, kills=2), KEPT, []), False),
        (Report(TALLY, Findings(), []), False),
        (Report(TALLY, KEPT, ["the writer died"]), False),
        (Report(TALLY, _found(_call(1, A)), []), False),
    ],
    ids=["kept", "too few kills", "nothing written", "trouble", "broken"],
)
def test_a_promise_is_kept_only_if_it_was_put_to_the_test(report: Report, kept: bool) -> None:
    assert report.kept(kills_wanted=3) is kept
    assert report.text(kills_wanted=3).splitlines()[-1].startswith("KEPT" if kept else "BROKEN")
