"""What happens to a position that cannot be read on from (G7, G10)."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from bson.timestamp import Timestamp

from fakes import (
    HIDDEN_INVALIDATE,
    HISTORY_LOST,
    IDLE,
    INVALIDATE,
    Crash,
    Entry,
    Stage,
    StoreFault,
    Traits,
    insert,
)
from tidemark.errors import HistoryLost, SourceRefused, TidemarkError, TokenRefused
from tidemark.model import Position, Read, ReadEnd, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidemark.ports import Reader


def lost(**options: Any) -> Stage:
    """A stream whose position, behind the first change, was pruned with the two after it."""
    stage = Stage(insert(1), **options)
    stage.run()
    stage.source.write(insert(2), insert(3), insert(4), insert(5))
    stage.source.prune(3)
    stage.store.requests.clear()
    return stage


def test_lost_history_halts_by_default_and_loses_no_position() -> None:
    """G7: nobody starts from now by itself."""
    stage = lost()
    before = stage.position

    summary = stage.run()

    assert "HistoryLost" in (summary.error or "")
    assert (stage.position, stage.store.gaps, stage.sink.delivered) == (before, [], [1])
    assert stage.run().stop_reason is StopReason.HALTED


def test_lost_history_from_the_earliest_records_the_gap_and_goes_on() -> None:
    """G7: from the last checkpoint to the oplog's first entry."""
    stage = lost(on_history_lost="earliest")
    left = stage.stored.checkpoint

    summary = stage.run()

    assert stage.sink.delivered == [1, 4, 5]
    assert (summary.gaps, summary.stop_reason) == (1, StopReason.CAUGHT_UP)
    [gap] = stage.store.gaps
    assert (gap.reason, gap.code, gap.from_checkpoint) == ("history_lost", 286, left)
    assert stage.source.index_of(gap.to_position) == 3
    assert json.loads(gap.definition) == stage.stream.definition
    assert "gap.recorded" in [name for name, _, _ in stage.telemetry.errors]


def test_lost_history_from_now_skips_what_is_still_there() -> None:
    stage = lost(on_history_lost="now")
    stage.run()
    stage.source.write(insert(6))
    stage.run()

    assert stage.sink.delivered == [1, 6]
    assert stage.source.index_of(stage.store.gaps[0].to_position) == 5


def test_lost_history_from_a_timestamp_starts_there() -> None:
    stage = lost(on_history_lost="earliest")
    start = stage.source.changes[4]["clusterTime"]
    stage.change_settings(on_history_lost=Timestamp(start.time, start.inc))
    stage.run()

    assert stage.sink.delivered == [1, 5]


def at_change(stage: Stage, index: int) -> Timestamp:
    """When the change at `index` of the oplog happened."""
    time: Timestamp = stage.source.changes[index]["clusterTime"]
    return time


@pytest.mark.parametrize("index", [0, 1, 2], ids=["the last change", "behind it", "lost too"])
def test_a_timestamp_that_is_not_ahead_or_lost_as_well_halts_the_stream(index: int) -> None:
    """G7: every fixed time ages out; nobody goes back to it in each run, with a false gap."""
    stage = lost(on_history_lost="earliest")
    stage.change_settings(on_history_lost=at_change(stage, index))
    before = stage.position

    summary = stage.run()

    assert "HistoryLost" in (summary.error or "")
    assert (stage.position, stage.store.gaps, summary.gaps) == (before, [], 0)
    assert stage.source.open_readers == 0
    assert stage.run().stop_reason is StopReason.HALTED
    [told] = [fields for name, fields in stage.telemetry.events if name == "stream.halted"]
    assert told["status_reason"].startswith("history lost (server code 286); on_history_lost = 20")
    assert told["status_reason"].endswith("is not ahead, or lost as well")


def test_a_timestamp_that_was_the_way_on_once_is_not_taken_again() -> None:
    """G7: although no change has come since."""
    stage = lost(on_history_lost="earliest")
    stage.change_settings(on_history_lost=stage.source.now(timeout_s=1).operation_time)
    assert stage.run().gaps == 1

    stage.source.write(IDLE, insert(6))
    stage.source.prune(stage.source.end)
    stage.run()

    assert (stage.sink.delivered, len(stage.store.gaps)) == ([1], 1)
    assert stage.run().stop_reason is StopReason.HALTED


def test_the_gap_and_the_new_position_are_one_write() -> None:
    """G7: both or neither."""
    stage = lost(on_history_lost="earliest")
    before = stage.position
    stage.store.inject(StoreFault.REFUSED, on="save_gap")

    stage.run()

    assert (stage.position, stage.store.gaps) == (before, [])
    assert stage.store.requests == ["acquire", "save_gap", "release"]


def test_a_gap_whose_answer_was_lost_is_one_gap() -> None:
    stage = lost(on_history_lost="earliest")
    stage.store.inject(StoreFault.ANSWER_LOST, on="save_gap")
    stage.run()
    stage.run_after_lease()

    assert len(stage.store.gaps) == 1
    assert stage.sink.delivered == [1, 4, 5]


def test_history_lost_while_reading_keeps_what_was_delivered_before() -> None:
    """The gap begins behind the last delivered change, not behind the last checkpoint."""
    stage = Stage(insert(1), HISTORY_LOST, insert(2), on_history_lost="earliest")
    stage.run()

    assert stage.sink.delivered == [1, 2]
    [gap] = stage.store.gaps
    assert gap.from_checkpoint is not None
    assert stage.source.index_of(gap.from_checkpoint.position) == 1


def test_a_gap_whose_answer_was_lost_is_not_gone_back_behind() -> None:
    """Found by the exhaustive search: the release stored what was delivered before the gap."""
    stage = Stage(insert(1), HISTORY_LOST, insert(2), on_history_lost="earliest")
    stage.change_settings(checkpoint_interval_s=60.0)
    stage.store.inject(StoreFault.ANSWER_LOST, on="save_gap")

    stage.run()

    [gap] = stage.store.gaps
    assert stage.position == gap.to_position


def test_history_that_is_lost_again_at_once_ends_the_run() -> None:
    """A jump that brings nothing is not tried for ever."""
    stage = lost(on_history_lost="earliest")
    stage.source.refusals.extend(HistoryLost("again", 286) for _ in range(5))

    summary = stage.run()

    assert "HistoryLost" in (summary.error or "")
    assert len(stage.store.gaps) == 1


@pytest.mark.parametrize("invalidate", [INVALIDATE, HIDDEN_INVALIDATE])
def test_a_stream_goes_on_behind_an_invalidate_without_a_gap(invalidate: object) -> None:
    """`start_after` takes an invalidate's token, delivered or looked up."""
    stage = Stage(insert(1), invalidate, insert(2))  # type: ignore[arg-type]
    stage.run()
    stage.run()

    assert [key for key in stage.sink.delivered if key != "invalidate"] == [1, 2]
    assert stage.store.gaps == []
    assert "stream.invalidated" in stage.telemetry.names
    assert stage.source.opened[-1].resume_token is not None


def test_invalidates_in_sequence_are_passed_one_by_one() -> None:
    stage = Stage(HIDDEN_INVALIDATE, HIDDEN_INVALIDATE, INVALIDATE, insert(1))
    stage.run()

    assert stage.sink.delivered == ["invalidate", 1]
    assert stage.store.gaps == []


def test_a_crash_behind_an_invalidate_brings_nothing_back() -> None:
    """The position behind an invalidate is stored before the stream is opened there."""
    stage = Stage(insert(1), INVALIDATE, insert(2))

    def crash_at_two(_: object) -> None:
        if stage.sink.attempts[-1] == [2]:
            raise Crash

    stage.sink.on_deliver = crash_at_two
    with pytest.raises(Crash):
        stage.run()

    assert stage.index == 2


@pytest.mark.parametrize(
    "refusal", [HistoryLost("260", 260), SourceRefused("start_after is unknown", 40415)]
)
def test_a_server_that_refuses_an_invalidates_token_costs_a_recorded_gap(
    refusal: Exception,
) -> None:
    """G7: reopened by operation time, right behind the last change."""
    stage = Stage(insert(1), INVALIDATE, insert(2))
    behind = stage.source.changes[1]["clusterTime"]
    refused = stage.source.open
    refusals = iter([refusal])

    def refuse_once(stream: object, position: object, **named: object) -> object:
        if stage.sink.delivered == [1, "invalidate"]:
            for error in refusals:
                raise error
        return refused(stream, position, **named)  # type: ignore[arg-type]

    stage.source.open = refuse_once  # type: ignore[assignment,method-assign]
    summary = stage.run()

    assert stage.sink.delivered == [1, "invalidate", 2]
    assert (summary.error, summary.gaps) == (None, 1)
    [gap] = stage.store.gaps
    assert (gap.reason, gap.to_position.operation_time) == (
        "invalidate_refused",
        Timestamp(behind.time, behind.inc + 1),
    )


REFUSALS = [
    HistoryLost("as resume_after", 260),
    HistoryLost("as Amazon DocumentDB", 9),
    SourceRefused("no start_after", 40415),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
@pytest.mark.parametrize("invalidate", [INVALIDATE, HIDDEN_INVALIDATE], ids=["delivered", "hidden"])
def test_a_refused_invalidates_token_skips_nothing_that_the_server_still_has(
    invalidate: Entry, refusal: TidemarkError
) -> None:
    """G1, G7: the gap that is recorded holds the invalidate alone."""
    stage = Stage(insert(1), invalidate, insert(2), invalidate, insert(3))
    stage.source.invalidate_refusal = refusal
    stage.source.opening_s = 0.01  # a gap's record is named for its millisecond

    summary = stage.run()

    assert [key for key in stage.sink.delivered if key != "invalidate"] == [1, 2, 3]
    assert (summary.error, summary.gaps) == (None, 2)
    assert [stage.source.index_of(gap.to_position) for gap in stage.store.gaps] == [2, 4]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
@pytest.mark.parametrize("invalidate", [INVALIDATE, HIDDEN_INVALIDATE], ids=["delivered", "hidden"])
def test_a_later_run_knows_that_the_position_is_an_invalidates(
    invalidate: Entry, refusal: TidemarkError
) -> None:
    """G1, G7: a container killed right behind the invalidate does not wedge the stream."""
    stage = Stage(insert(1), invalidate, insert(2), lease_s=10.0)
    opened = stage.source.open

    def crash_behind(stream: object, position: Position, **named: object) -> object:
        if position.resume_token == stage.source.invalidates[1]["_id"]:
            raise Crash
        return opened(stream, position, **named)  # type: ignore[arg-type]

    stage.source.open = crash_behind  # type: ignore[assignment,method-assign]
    with pytest.raises(Crash):
        stage.run()
    stage.source.open = opened  # type: ignore[method-assign]
    stage.source.invalidate_refusal = refusal
    stage.source.write(insert(3))

    summary = stage.run_after_lease()

    assert [key for key in stage.sink.delivered if key != "invalidate"] == [1, 2, 3]
    assert (summary.error, summary.gaps) == (None, 1)
    assert stage.stored.checkpoint is not None
    assert not stage.stored.checkpoint.behind_invalidate


def test_an_invalidates_token_that_left_the_oplog_is_lost_history() -> None:
    """G7: the policy decides, as of any other token."""
    stage = Stage(insert(1), INVALIDATE)
    stage.run()
    stage.source.write(insert(2), insert(3))
    stage.source.prune(3)

    assert "HistoryLost" in (stage.run().error or "")
    assert (stage.run().stop_reason, stage.store.gaps) == (StopReason.HALTED, [])


@pytest.mark.parametrize(
    ("start_after", "policy", "delivered", "stop", "gaps"),
    [
        (
            False,
            "earliest",
            [1, 2, 3],
            StopReason.CAUGHT_UP,
            ["history_lost", "invalidate_refused"],
        ),
        (False, "halt", [1, 2], StopReason.HALTED, []),
        (True, "halt", [1, 2, 3], StopReason.CAUGHT_UP, []),
    ],
)
def test_a_search_from_what_was_lost_does_not_fail_for_ever(
    *, start_after: bool, policy: str, delivered: list[int], stop: StopReason, gaps: list[str]
) -> None:
    """G7: the position is kept, what is certainly before it is not.

    The policy decides where each run would search from there, and the next run goes on elsewhere.
    """
    hides = frozenset({"operationType"})
    untold = Traits(closing_tells=False, hides=hides, start_after=start_after)
    stage = Stage(insert(1), insert(2), traits=untold, on_history_lost=policy)
    entries = iter([[HIDDEN_INVALIDATE, insert(3)]])

    def meanwhile(_: object) -> None:
        stage.source.write(*next(entries, []))
        stage.source.prune(2)

    stage.sink.on_deliver = meanwhile
    stage.run()

    assert stage.run().stop_reason is stop
    assert stage.sink.delivered == delivered
    told = [
        fields["reason"] for name, _, fields in stage.telemetry.errors if name == "gap.recorded"
    ]
    assert told == gaps


def test_a_quiet_answer_behind_an_invalidate_is_an_ordinary_position() -> None:
    stage = Stage(insert(1), INVALIDATE)
    stage.run()
    stage.source.write(IDLE)
    stage.run()

    assert stage.stored.checkpoint is not None
    assert not stage.stored.checkpoint.behind_invalidate


def test_a_server_that_meets_the_same_invalidate_again_costs_a_gap_and_no_change() -> None:
    """G7: a position that leads nowhere is left by operation time."""
    stage = Stage(insert(1), HIDDEN_INVALIDATE, insert(2))
    token = stage.source.invalidates[1]["_id"]
    index_of = stage.source.index_of

    def before_it(position: Position) -> int:
        return index_of(position) - int(position.resume_token == token)

    stage.source.index_of = before_it  # type: ignore[method-assign]
    stage.run()

    assert stage.sink.delivered == [1, 2]
    assert [gap.code for gap in stage.store.gaps] == [None]


def test_a_refused_password_behind_an_invalidate_is_no_gap() -> None:
    """G7: what has nothing to do with the token does not cost the position."""
    stage = Stage(insert(1), INVALIDATE, insert(2))
    opened = stage.source.open

    def refuse(stream: object, position: object, **named: object) -> object:
        if stage.sink.delivered == [1, "invalidate"]:
            raise SourceRefused("authentication failed", 18)
        return opened(stream, position, **named)  # type: ignore[arg-type]

    stage.source.open = refuse  # type: ignore[assignment,method-assign]
    summary = stage.run()
    assert summary.error == "SourceRefused: authentication failed"
    assert not stage.store.gaps

    stage.source.open = opened  # type: ignore[method-assign]
    assert stage.run().error is None
    assert stage.sink.delivered == [1, "invalidate", 2]


FEWER = ({"$match": {"operationType": "insert"}},)


def fingerprint_of(stage: Stage) -> str | None:
    """What the stored position belongs to."""
    return stage.stored.checkpoint.fingerprint if stage.stored.checkpoint else None


def redefined(**options: Any) -> Stage:
    """A stream with a position, deployed again with another pipeline, and a change since."""
    stage = Stage(insert(1), **options)
    stage.run()
    stage.change_settings(pipeline=FEWER)
    stage.source.write(insert(2))
    return stage


def test_a_changed_definition_is_refused_with_both_shown() -> None:
    """G10: by default."""
    stage = redefined()
    before = stage.position

    summary = stage.run()

    assert "DefinitionChanged" in (summary.error or "")
    assert '"pipeline": []' in (summary.error or "")
    assert '"$match"' in (summary.error or "")
    assert (stage.position, stage.sink.delivered) == (before, [1])
    assert stage.store.expires_at_ms("orders") == 0


def test_a_changed_definition_may_keep_its_position() -> None:
    """G10: an explicit choice; the new definition is stored with the token."""
    stage = redefined(on_definition_change="resume")
    stage.run()

    assert (stage.sink.delivered, stage.store.gaps) == ([1, 2], [])
    assert stage.stored.checkpoint is not None
    assert stage.stored.checkpoint.fingerprint == stage.stream.fingerprint


@pytest.mark.parametrize("quiet", [True, False])
def test_a_kept_position_is_of_the_new_definition_once_the_stream_was_read(quiet: bool) -> None:
    """G10: not before the server has taken the token with it."""
    stage = Stage(insert(1))
    stage.run()
    former = stage.stream.fingerprint
    stage.change_settings(pipeline=FEWER, on_definition_change="resume")
    stage.source.write(*[] if quiet else [insert(2)])
    stage.source.refusals.append(TokenRefused("cannot go on", 280))
    assert stage.run().error == "TokenRefused: cannot go on"
    assert fingerprint_of(stage) == former

    stage.run()

    assert fingerprint_of(stage) == stage.stream.fingerprint
    assert stage.stored.checkpoint is not None
    assert json.loads(stage.stored.checkpoint.definition) == stage.stream.definition


def test_restart_is_the_way_on_where_resume_was_refused() -> None:
    """G10, G7."""
    stage = redefined(on_definition_change="resume")
    stage.source.refusals.append(TokenRefused("cannot go on", 280))
    stage.run()
    stage.change_settings(on_definition_change="restart")

    summary = stage.run()

    assert (summary.error, stage.sink.delivered) == (None, [1, 1, 2])
    assert [gap.reason for gap in stage.store.gaps] == ["definition_changed"]


def test_restart_gives_up_a_token_that_the_server_cannot_go_on_from() -> None:
    """G7: although the definition is the same, as its remedy says; once a run."""
    stage = Stage(insert(1), on_definition_change="restart", start_at="now")
    stage.run()
    stage.source.write(insert(2))
    stage.run()
    stage.source.refusals.extend(TokenRefused("cannot go on", 280) for _ in range(2))

    assert stage.run().error == "TokenRefused: cannot go on"
    assert [(gap.reason, gap.code) for gap in stage.store.gaps] == [("token_refused", 280)]
    stage.source.refusals.append(TokenRefused("cannot go on", 280))
    assert stage.run().error == "TokenRefused: cannot go on"  # it is not the token's fault
    stage.source.write(insert(3))
    assert stage.run().error is None
    assert (stage.sink.delivered, len(stage.store.gaps)) == ([2, 3], 1)


@pytest.mark.parametrize("policy", ["refuse", "resume"])
def test_a_token_that_the_server_cannot_go_on_from_is_kept_without_a_restart(policy: str) -> None:
    """G7."""
    stage = Stage(insert(1), on_definition_change=policy)
    stage.run()
    before = stage.position
    stage.source.refusals.append(TokenRefused("cannot go on", 280))

    assert stage.run().error == "TokenRefused: cannot go on"
    assert (stage.position, stage.store.gaps) == (before, [])


def test_a_changed_definition_may_start_afresh_with_a_gap() -> None:
    """G10, G7."""
    stage = redefined(on_definition_change="restart")
    stage.run()

    assert stage.sink.delivered == [1, 1, 2]
    assert [gap.reason for gap in stage.store.gaps] == ["definition_changed"]


def test_other_settings_are_no_other_definition() -> None:
    stage = Stage(insert(1))
    stage.run()
    stage.change_settings(max_changes=7, max_attempts=2, checkpoint_interval_s=9)

    assert stage.run().error is None


@pytest.mark.parametrize(("start_at", "delivered"), [("now", [3]), ("earliest", [1, 2, 3])])
def test_a_first_run_starts_where_it_is_told(start_at: str, delivered: list[int]) -> None:
    stage = Stage(insert(1), insert(2), start_at=start_at)
    stage.run()
    stage.source.write(insert(3))
    stage.run()

    assert stage.sink.delivered == delivered


# ------------------------------------------------------- `earliest`, and what is cut off meanwhile


def before_opening(stage: Stage, act: Callable[[int], object]) -> None:
    """Let `act` see the number of each opening from now on, before the server answers it."""
    opened, numbers = stage.source.open, itertools.count(1)

    def watched(*given: Any, **named: Any) -> Any:
        act(next(numbers))
        return opened(*given, **named)

    stage.source.open = watched  # type: ignore[method-assign]


@pytest.mark.parametrize("loses_at", ["open", "read"])
@pytest.mark.parametrize("races", [1, 2])
def test_a_first_entry_that_is_cut_off_before_it_is_read_costs_neither_a_gap_nor_a_halt(
    loses_at: Literal["open", "read"], races: int
) -> None:
    """G7: nothing was promised yet in the run that stores its first position."""
    stage = Stage(*map(insert, range(4)), traits=Traits(loses_at=loses_at))
    before_opening(stage, lambda number: stage.source.prune(min(number, races)))

    summary = stage.run()

    assert (summary.error, summary.gaps, stage.store.gaps) == (None, 0, [])
    assert stage.sink.delivered == list(range(races, 4))
    assert stage.run().stop_reason is StopReason.CAUGHT_UP


@pytest.mark.parametrize("loses_at", ["open", "read"])
def test_a_first_position_that_is_cut_off_between_two_runs_is_a_gap_and_no_halt(
    loses_at: Literal["open", "read"],
) -> None:
    """G7: it was stored, so what is skipped is recorded; but no change had been read of it."""
    stage = Stage(*map(insert, range(4)), traits=Traits(loses_at=loses_at))
    before_opening(stage, lambda number: crash() if number == 1 else None)
    with pytest.raises(Crash):
        stage.run()
    stage.source.prune(2)

    summary = stage.run_after_lease()

    assert (summary.error, stage.sink.delivered) == (None, [2, 3])
    [gap] = stage.store.gaps
    assert (gap.reason, stage.source.index_of(gap.to_position)) == ("history_lost", 2)
    assert stage.run().stop_reason is StopReason.CAUGHT_UP


def crash() -> None:
    raise Crash


def test_a_first_entry_that_is_lost_and_still_the_first_ends_the_run() -> None:
    """A server that contradicts itself is not asked for ever, and halts nothing."""
    stage = Stage(insert(1))
    stage.source.refusals.extend(HistoryLost("lost", 286) for _ in range(5))

    assert stage.run().error == "HistoryLost: lost"
    assert (stage.store.gaps, len(stage.source.refusals)) == ([], 4)
    stage.source.refusals.clear()
    assert (stage.run().error, stage.sink.delivered) == (None, [1])


def test_a_stream_that_was_read_once_has_a_position_to_lose() -> None:
    """G7: `start_at` is no policy for what comes after it."""
    stage = Stage(IDLE, start_at="earliest")
    stage.run()
    stage.source.write(insert(1), insert(2))
    stage.source.prune(3)

    assert "HistoryLost" in (stage.run().error or "")
    assert stage.run().stop_reason is StopReason.HALTED


def test_a_jump_to_the_earliest_that_races_truncation_again_jumps_again() -> None:
    """G7, G11: each jump with its own record, and each further on."""
    stage = lost(on_history_lost="earliest")
    stage.source.opening_s = 0.01  # a gap's record is named for its millisecond
    before_opening(stage, lambda number: stage.source.prune(4) if number == 2 else None)

    summary = stage.run()

    assert (summary.error, summary.gaps, stage.sink.delivered) == (None, 2, [1, 5])
    assert [stage.source.index_of(gap.to_position) for gap in stage.store.gaps] == [3, 4]


# ----------------------------------------------------------------- a definition that never opened

TYPO = ({"$match": {"operationType": {"$inn": ["insert"]}}},)
ANOTHER_TYPO: tuple[dict[str, Any], ...] = ({"$macth": {}},)
UNKNOWN_OPERATOR = SourceRefused("unknown operator: $inn", 2)


def test_a_typo_is_mended_where_the_stream_never_opened_with_it() -> None:
    """G10: the definition becomes the position's when the stream has been read with it."""
    stage = Stage(start_at="now", pipeline=TYPO)
    for pipeline in (TYPO, TYPO, ANOTHER_TYPO):
        stage.change_settings(pipeline=pipeline)
        stage.source.refusals.append(UNKNOWN_OPERATOR)
        assert stage.run().error == "SourceRefused: unknown operator: $inn"
    stage.source.write(insert(1))
    stage.change_settings(pipeline=FEWER)

    summary = stage.run()

    assert (summary.error, stage.sink.delivered, stage.store.gaps) == (None, [1], [])  # G1
    assert fingerprint_of(stage) == stage.stream.fingerprint
    stage.change_settings(pipeline=())
    assert "DefinitionChanged" in (stage.run().error or "")


def test_a_definition_that_has_read_nothing_but_an_end_is_the_positions() -> None:
    """G10: the server has taken it."""
    stage = Stage(start_at="now", pipeline=FEWER)
    stage.run()
    stage.change_settings(pipeline=())

    assert "DefinitionChanged" in (stage.run().error or "")


# -------------------------------------------------------------------- a deployment of another name


def moved(set_name: str | None = "restored", **options: Any) -> Stage:
    """A stream with a position of "rs0", whose server is of another name now, with a change."""
    stage = Stage(insert(1), **options)
    stage.run()
    rename(stage, set_name)
    stage.source.write(insert(2))
    return stage


def rename(stage: Stage, set_name: str | None) -> None:
    """From now on the server calls its set so."""
    stage.source.traits = replace(stage.source.traits, set_name=set_name)


def deployment_of(stage: Stage) -> str | None:
    """What the stored position is of."""
    return stage.stored.checkpoint.deployment if stage.stored.checkpoint else None


def test_a_position_of_another_deployment_is_refused_with_both_names() -> None:
    """G10: a token of elsewhere may be taken in silence."""
    stage = moved()
    before = stage.position

    error = stage.run().error or ""

    assert error.startswith("DefinitionChanged: ")
    assert "'rs0'" in error
    assert "'restored'" in error
    assert (stage.position, stage.sink.delivered, stage.store.gaps) == (before, [1], [])
    assert (deployment_of(stage), stage.store.expires_at_ms("orders")) == ("rs0", 0)
    rename(stage, "rs0")
    assert (stage.run().error, stage.sink.delivered) == (None, [1, 2])


def test_a_position_of_another_deployment_may_be_kept() -> None:
    """G10: the same data under a new name; which is stored once the stream was read there."""
    stage = moved(on_definition_change="resume")
    stage.source.refusals.append(TokenRefused("cannot go on", 280))
    assert stage.run().error == "TokenRefused: cannot go on"
    assert deployment_of(stage) == "rs0"

    summary = stage.run()

    assert (summary.error, stage.sink.delivered, stage.store.gaps) == (None, [1, 2], [])
    assert deployment_of(stage) == "restored"
    stage.change_settings(on_definition_change="refuse")
    assert stage.run().error is None


def test_a_position_of_another_deployment_may_be_given_up() -> None:
    """G10, G7."""
    stage = moved(on_definition_change="restart")
    left = stage.stored.checkpoint

    summary = stage.run()

    assert (summary.error, summary.gaps, stage.sink.delivered) == (None, 1, [1, 1, 2])
    [gap] = stage.store.gaps
    assert (gap.reason, gap.code, gap.from_checkpoint) == ("deployment_changed", None, left)
    assert deployment_of(stage) == "restored"
    assert stage.run().gaps == 0


def test_another_deployment_is_told_before_another_definition() -> None:
    """G10: one gap, not two."""
    stage = moved(on_definition_change="restart")
    stage.change_settings(pipeline=FEWER)

    stage.run()

    assert [gap.reason for gap in stage.store.gaps] == ["deployment_changed"]
    assert fingerprint_of(stage) == stage.stream.fingerprint


@pytest.mark.parametrize(
    ("former", "present", "stored"),
    [("rs0", "rs0", "rs0"), (None, "rs0", "rs0"), ("rs0", None, "rs0"), (None, None, None)],
    ids=["the same", "of the first edition", "behind mongos", "never known"],
)
def test_a_name_that_is_not_known_is_adopted(
    former: str | None, present: str | None, stored: str | None
) -> None:
    """G10: compared where both are known, and never forgotten."""
    stage = Stage(insert(1), traits=Traits(set_name=former))
    stage.run()
    rename(stage, present)
    stage.source.write(insert(2))

    assert (stage.run().error, stage.sink.delivered, stage.store.gaps) == (None, [1, 2], [])
    assert deployment_of(stage) == stored


# --------------------------------------------- a server without `startAfter`, and a hiding pipeline

HIDES = frozenset({"operationType", "clusterTime"})
WITHOUT_START_AFTER = Traits(start_after=False, closing_tells=False, hides=HIDES)
CLOSES = ["at_once", "late_when_full", "late"]
DROPS = [insert(1), INVALIDATE, insert(2), INVALIDATE, insert(3)]
HIDDEN_DROPS = [insert(1), HIDDEN_INVALIDATE, insert(2), HIDDEN_INVALIDATE, insert(3)]


def documents(stage: Stage) -> list[object]:
    """What was delivered, without what has no document."""
    return [key for key in stage.sink.delivered if key in (1, 2, 3)]


def hiding(script: list[Entry], closes: Any, **options: Any) -> Stage:
    """A stream whose pipeline hides both fields, on a server that refuses an invalidate's token."""
    stage = Stage(*script, traits=replace(WITHOUT_START_AFTER, closes=closes), **options)
    stage.source.opening_s = 0.01  # a gap's record is named for its millisecond
    return stage


@pytest.mark.parametrize("closes", CLOSES)
@pytest.mark.parametrize("script", [DROPS, HIDDEN_DROPS], ids=["visible", "hidden"])
@pytest.mark.parametrize("options", [{}, {"max_changes": 1}], ids=["many", "one"])
def test_drops_skip_nothing_where_the_invalidates_token_is_refused(
    script: list[Entry], closes: str, options: dict[str, Any]
) -> None:
    """G1, G7: right after each invalidate, by a time that no pipeline has touched."""
    stage = hiding(script, closes, **options)

    summary = stage.run()

    assert (summary.error, documents(stage)) == (None, [1, 2, 3])
    assert {gap.reason for gap in stage.store.gaps} == {"invalidate_refused"}
    assert [stage.source.index_of(gap.to_position) for gap in stage.store.gaps] == [2, 4]


class CrashPoints:
    """Counts what a run does to the world, and crashes it before or after one of these."""

    def __init__(self, stage: Stage, at: int, *, after: bool) -> None:
        self.left = at
        self._after = after
        for owner, name in (
            (stage.source, "open"),
            (stage.source, "next_invalidate"),
            (stage.store, "save"),
            (stage.store, "save_gap"),
            (stage.sink, "on_deliver"),
        ):
            self._watch(owner, name)

    def _watch(self, owner: Any, name: str) -> None:
        act = getattr(owner, name)

        def watched(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if not self.left and not self._after:
                raise Crash
            is_last = not self.left
            try:
                return act(*given, **named)
            finally:
                if is_last:
                    raise Crash  # also where it was refused

        setattr(owner, name, watched)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("closes", CLOSES)
@pytest.mark.parametrize("script", [DROPS[:3], HIDDEN_DROPS[:3]], ids=["visible", "hidden"])
def test_a_crash_at_any_point_around_an_invalidate_loses_nothing(
    script: list[Entry], closes: str, after: bool
) -> None:
    """G1, G2, G3, G7: insert, invalidate, insert: each once but for what was not checkpointed."""
    for at in itertools.count(1):
        stage = hiding(script, closes, checkpoint_interval_s=0)
        points = CrashPoints(stage, at, after=after)
        if not crashes(stage):
            break
        summary = stage.run_after_lease()

        assert (at, summary.error, list(dict.fromkeys(documents(stage)))) == (at, None, [1, 2])
        assert len(documents(stage)) <= 3
        assert {gap.reason for gap in stage.store.gaps} <= {"invalidate_refused"}
        assert {stage.source.index_of(gap.to_position) for gap in stage.store.gaps} <= {2}
        assert stage.index == 3
    assert at > 8
    assert points.left > 0  # the run had no such point


def crashes(stage: Stage) -> bool:
    """Whether a run of the stream ends in a crash."""
    try:
        stage.run()
    except Crash:
        return True
    return False


# -------------------------------------------------- a position that only the driver's resume loses


def losing(stage: Stage, *, times: int) -> list[Position]:
    """Let so many readers lose their position at their second read; where each was opened."""
    opened, positions = stage.source.open, list[Position]()

    def open_losing(*given: Any, **named: Any) -> Any:
        reader = opened(*given, **named)
        positions.append(given[1])
        if len(positions) <= times:
            lose_later(reader)
        return reader

    stage.source.open = open_losing  # type: ignore[method-assign]
    return positions


def lose_later(reader: Reader) -> None:
    """Let the driver's own resume, which comes at the second read, be refused."""
    read, numbers = reader.read, itertools.count(1)

    def read_once(*limits: Any, **given: Any) -> Read:
        if next(numbers) > 1:
            raise HistoryLost("resumeAfter takes no invalidate's token", 260)
        return read(*limits, **given)

    reader.read = read_once  # type: ignore[method-assign]


def test_a_position_that_only_the_drivers_resume_loses_is_opened_again() -> None:
    """G7: an opening of our own decides: it has `startAfter`, the driver's resume has not."""
    stage = Stage(insert(1), IDLE, insert(2))
    positions = losing(stage, times=1)

    summary = stage.run()

    assert (summary.error, summary.gaps, stage.sink.delivered) == (None, 0, [1, 2])
    assert positions[1] == Position(resume_token=stage.source.changes[0]["_id"])
    assert stage.run().stop_reason is StopReason.CAUGHT_UP


def test_right_after_an_invalidate_the_drivers_resume_is_not_believed() -> None:
    """G1, G7: where it matters: no gap, and nothing twice."""
    stage = Stage(insert(1), INVALIDATE, IDLE, IDLE, insert(2))
    losing(stage, times=2)

    summary = stage.run()

    assert (summary.error, summary.gaps) == (None, 0)
    assert stage.sink.delivered == [1, "invalidate", 2]


def test_a_position_that_is_lost_twice_is_lost() -> None:
    """G7: the second time, without a move between them, the policy decides."""
    stage = Stage(IDLE, IDLE, insert(1))
    stage.run()
    stage.source.write(insert(2))
    opened = stage.source.open

    def open_losing(*given: Any, **named: Any) -> Any:
        reader = opened(*given, **named)
        reader.read = nothing_then_lost()  # type: ignore[method-assign]
        return reader

    stage.source.open = open_losing  # type: ignore[method-assign]
    before = stage.position

    assert "HistoryLost" in (stage.run().error or "")
    assert stage.position == before
    assert stage.run().stop_reason is StopReason.HALTED


def nothing_then_lost() -> Callable[..., Read]:
    """A first read that brings nothing and moves nothing, and a second that loses the position."""
    reads = iter([Read([], ReadEnd.DRAINED)])

    def read(*_: Any, **__: Any) -> Read:
        for each in reads:
            return each
        raise HistoryLost("gone", 286)

    return read


# --------------------------------------------------------------------- items of the first edition

BEFORE = ("before_of", "before_position_use", "before_resume_token", "before_operation_time")


def of_the_first_edition(*forgets: str, **options: Any) -> Stage:
    """A position that is an invalidate's own token, stored without one before it."""
    stage = Stage(insert(1), INVALIDATE, **options)
    stage.run()
    item = stage.store.items["orders"]
    for name in ("deployment", "observed_operation_time", "observed_at_ms", *BEFORE, *forgets):
        item.pop(name, None)
    assert item["behind_invalidate"] == {"N": "1"}
    stage.source.write(insert(2))
    stage.source.traits = Traits(start_after=False, closing_tells=False)
    return stage


def test_an_invalidates_token_of_the_first_edition_is_left_by_the_time_beside_it() -> None:
    """G1, G7."""
    stage = of_the_first_edition()

    summary = stage.run()

    assert (summary.error, stage.sink.delivered) == (None, [1, "invalidate", 2])
    assert [gap.reason for gap in stage.store.gaps] == ["invalidate_refused"]


def test_an_invalidates_token_without_any_time_is_for_the_policy_to_leave() -> None:
    """G7: never from now on by itself."""
    stage = of_the_first_edition("cluster_time")
    before = stage.position

    assert "the time of it is not known" in (stage.run().error or "")
    assert (stage.position, stage.store.gaps) == (before, [])
    assert stage.run().stop_reason is StopReason.HALTED


def test_the_policy_may_leave_it_for_the_earliest_and_lose_nothing() -> None:
    """G1, G7: again from the oplog's beginning, with a record."""
    stage = of_the_first_edition("cluster_time", on_history_lost="earliest")
    stage.source.opening_s = 0.01  # a gap's record is named for its millisecond

    summary = stage.run()

    assert summary.error is None
    assert stage.sink.delivered == [1, "invalidate", 1, "invalidate", 2]
    assert "history_lost" in [gap.reason for gap in stage.store.gaps]
