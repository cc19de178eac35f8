"""The verdict on a stream that fell behind finds each way in which a run can waste its time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos_scans import EARLY, LATE, SCENES, Play, Run, judge, text

SCANS_ON, EMPTIES_MOVE, _ = SCENES
CAUGHT_UP = Run(EARLY, "token:2", "caught_up", 40.0)
TOO_SHORT = Run((), "token:2", "budget", 8.0, says_scanning=True)
REACHED = Run(LATE, "token:3", "caught_up", 30.0)
KEPT = Play(SCANS_ON, "token:1", [CAUGHT_UP], TOO_SHORT, REACHED)


def test_a_run_that_reaches_all_and_one_that_says_what_it_did_not_are_kept() -> None:
    assert judge(KEPT) == []
    assert "BROKEN" not in text(KEPT)


def test_where_the_token_moves_the_position_is_enough() -> None:
    short = replace(TOO_SHORT, position="token:2a", says_scanning=False)
    assert judge(replace(KEPT, scene=EMPTIES_MOVE, short=short)) == []


@pytest.mark.parametrize(
    ("play", "found"),
    [
        (replace(KEPT, short=None), "did not come to its end"),
        (replace(KEPT, long=[replace(CAUGHT_UP, error="out of time")]), "run 1 failed"),
        (replace(KEPT, short=replace(TOO_SHORT, left_behind=1)), "run 2 left 1 scans behind"),
        (
            replace(KEPT, long=[replace(CAUGHT_UP, delivered=EARLY[:1])]),
            f"the first run of 40 s delivered {list(EARLY[:1])}",
        ),
        (
            replace(KEPT, long=[CAUGHT_UP, replace(CAUGHT_UP, delivered=EARLY[:1])]),
            "each change once, in order",
        ),
        (replace(KEPT, long=[replace(CAUGHT_UP, stop_reason="budget")]), "not caught up after 1"),
        (replace(KEPT, short=replace(TOO_SHORT, stop_reason="caught_up")), "ended as caught_up"),
        (
            replace(KEPT, short=replace(TOO_SHORT, says_scanning=False)),
            "did not say stream.scanning",
        ),
        (replace(KEPT, scene=EMPTIES_MOVE), "and the position did not"),
        (replace(KEPT, last=replace(REACHED, delivered=())), "after the short one delivered []"),
    ],
    ids=[
        "a play cut short",
        "failed",
        "a scan left behind",
        "what lay within its time",
        "delivered again",
        "never caught up",
        "caught up before the end",
        "silent",
        "a token that moved",
        "not reached after all",
    ],
)
def test_a_wasted_run_is_found(play: Play, found: str) -> None:
    """G11."""
    assert any(found in fault for fault in judge(play)), judge(play)
    assert f"BROKEN: {judge(play)[0]}" in text(play)
