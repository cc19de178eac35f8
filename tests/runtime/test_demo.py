"""The demo tells the truth: what it reads, notes and shows."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import demo_schedule
import demo_state
import demo_tide
from container import Answer
from demo_record import Record, Sample
from demo_verdict import Write, judge
from demo_writer import Writer
from tidemark.model import Batch

if TYPE_CHECKING:
    from types import ModuleType

    from pymongo.database import Database

A = Write("insert", "a", 1)
LINE = json.dumps(
    {"change_id": "1f", "fencing_token": 3, "operation": "insert", "document": "a", "version": 1}
).encode()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "deliveries")


@pytest.fixture
def demo_deliver(record: Record, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("DEMO_DELIVERIES", str(record.deliveries_file))
    path = Path(demo_schedule.__file__).with_name("demo_function") / "deliver.py"
    spec = importlib.util.spec_from_file_location("demo_deliver", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_half_written_line_is_read_once_it_is_whole(record: Record) -> None:
    record.deliveries_file.write_bytes(LINE + b"\n" + LINE[:9])
    record.read_deliveries()
    assert len(record.deliveries) == 1
    with record.deliveries_file.open("ab") as file:
        file.write(LINE[9:] + b"\n")
    record.read_deliveries()
    assert [delivery.write for delivery in record.deliveries] == [A, A]


def test_lag_is_the_age_of_the_oldest_undelivered_write(record: Record) -> None:
    record.note_write(A)
    record.note_write(Write("insert", "b", 1))
    record.deliveries_file.write_bytes(LINE + b"\n")
    record.read_deliveries()
    assert record.waiting == 1
    assert 0 < record.lag_s() <= record.now_s() - record.written_at_s[1]


def test_lag_is_zero_when_all_is_delivered(record: Record) -> None:
    record.note_write(A)
    record.deliveries_file.write_bytes(LINE + b"\n")
    record.read_deliveries()
    assert (record.waiting, record.lag_s()) == (0, 0.0)


def test_what_the_writer_notes_is_what_the_stream_brings(
    database: Database[dict[str, Any]], record: Record, demo_deliver: ModuleType
) -> None:
    """Note by note: operation, document and version, in order."""
    writer = Writer(database.orders, per_second=1)
    with database.orders.watch() as stream:
        for _ in range(150):
            record.note_write(writer.write_one())
        demo_deliver.deliver(Batch("orders", [next(stream) for _ in range(150)], 1))
    record.read_deliveries()
    verdict = judge(record.writes, record.deliveries, kills=2)
    assert [delivery.write for delivery in record.deliveries] == record.writes
    assert {write.operation for write in record.writes} == {"insert", "update", "replace", "delete"}
    assert verdict.kept


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(0, "", ""), "SIGKILL to the container"),
        (Answer(502, "Runtime exited with error: signal: killed", ""), "SIGKILL to the runtime"),
        (Answer(502, "Runtime exited with error: exit status 1", ""), "failed: Runtime exited"),
        (Answer(200, "Task timed out after 5.00 seconds", ""), "failed: Task timed out"),
        (Answer(200, '{"errorMessage": "no such table"}', ""), "failed: no such table"),
        (Answer(200, '{"streams": {"orders": {"stop_reason": "caught_up"}}}', ""), "caught up"),
        (
            Answer(
                200,
                '{"streams": {"orders": {"stop_reason": "lease_held"}}}',
                '{"lease_owner": "0123456789", "lease_expires_at_ms": 1}',
            ),
            "lease held by 01234567, 0.0 s left",
        ),
    ],
)
def test_the_ending_of_a_run_is_told_in_words(answer: Answer, words: str) -> None:
    assert demo_schedule.ending(answer).startswith(words)


def test_a_kill_is_seen_however_many_samples_share_its_column() -> None:
    samples = [
        Sample(0.1, 9, killed=False),
        Sample(0.2, 2, killed=True),
        Sample(0.3, 1, killed=False),
    ]
    first, second = demo_tide.columns(samples, width=2, span_s=2)
    assert first
    assert (first.waiting, first.killed) == (9, True)
    assert second is None


def test_the_tide_is_drawn_in_eighths_of_a_character() -> None:
    assert demo_tide.rows([0, 0.5, 0.75, 1], height=2) == ["  ▄█", " ███"]


def test_the_state_is_the_tables_item() -> None:
    item = {
        "lease_owner": {"S": "0123456789abcdef"},
        "lease_expires_at_ms": {"N": "12500"},
        "fencing_token": {"N": "7"},
        "operation_time": {"S": "1700000000.1"},
        "checkpointed_at_ms": {"N": "8000"},
    }
    state = demo_state.of_item(item, now_s=10)
    assert (state.owner, state.expires_in_s, state.held) == ("01234567", 2.5, True)
    assert (state.fencing_token, state.position) == (7, "time 1700000000.1")
    assert state.checkpoint_age_s == 2


def test_before_the_first_run_there_is_no_state() -> None:
    assert demo_state.of_item({}, now_s=10).position == "none yet"
    assert not demo_state.of_item({}, now_s=10).held
