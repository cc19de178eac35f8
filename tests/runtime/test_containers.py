"""The harness itself: both kinds of container behave like Lambda, and alike."""

from __future__ import annotations

import platform
import threading
import time
from typing import TYPE_CHECKING

import pytest

from container import Container, Function, open_container
from emulator import EmulatorContainer
from emulator_binary import find
from subprocess_container import SubprocessContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HANDLER = """
import json, os, time

calls = 0

def lambda_handler(event, context):
    global calls
    calls += 1
    print(json.dumps({"message": "called", "calls": calls}), flush=True)
    if "touch" in event:
        open(event["touch"], "w").close()
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    time.sleep(event.get("sleep_s", 0))
    return {
        "calls": calls,
        "pid": os.getpid(),
        "remaining_ms": context.get_remaining_time_in_millis(),
        "request_id": context.aws_request_id,
        "function": context.function_name,
        "memory": context.memory_limit_in_mb,
        "given": os.environ.get("GIVEN"),
        "secret": os.environ.get("OUR_SECRET"),
    }
"""


def _emulator(function: Function) -> Container:
    if platform.system() != "Linux":
        pytest.skip("AWS's emulator runs on Linux only; the subprocess is tested here")
    return EmulatorContainer(function, find())


@pytest.fixture(params=[_emulator, SubprocessContainer], ids=["emulator", "subprocess"])
def started(
    request: pytest.FixtureRequest,
    handler_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Container]:
    monkeypatch.setenv("OUR_SECRET", "not for the function")
    function = Function(handler_folder(HANDLER), {"GIVEN": "yes"}, timeout_s=2)
    with request.param(function) as container:
        yield container


def test_a_container_stays_warm_between_events(started: Container) -> None:
    first, second = started.invoke().result, started.invoke().result
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["pid"] == second["pid"]
    assert first["request_id"] != second["request_id"]


def test_a_handler_sees_lambdas_context_and_its_own_environment(started: Container) -> None:
    result = started.invoke().result
    assert 1000 < result["remaining_ms"] <= 2000
    assert (result["function"], result["memory"]) == ("tidemark", "512")
    assert (result["given"], result["secret"]) == ("yes", None)


def test_an_answer_carries_the_events_logged_meanwhile(started: Container) -> None:
    started.invoke()
    assert [event["calls"] for event in started.invoke().events if "calls" in event] == [2]


def test_a_raised_error_is_an_answer(started: Container) -> None:
    answer = started.invoke({"raise": "no such thing"})
    assert (answer.status, answer.error) == (200, "no such thing")
    assert answer.result["errorType"] == "ValueError"
    assert started.invoke().error is None


def test_a_timeout_kills_the_runtime_and_the_next_event_finds_a_cold_one(
    started: Container,
) -> None:
    before = started.invoke().result
    answer = started.invoke({"sleep_s": 30})
    assert answer.status == 200
    assert answer.timed_out
    assert answer.error == "Task timed out after 2.00 seconds"
    after = started.invoke().result
    assert after["calls"] == 1
    assert after["pid"] != before["pid"]


def test_a_handler_that_ends_its_process_answers_502(started: Container) -> None:
    answer = started.invoke({"exit": 7})
    assert (answer.status, answer.killed) == (502, False)
    assert answer.error
    assert answer.error.endswith("exit status 7")
    assert started.invoke().result["calls"] == 1


def test_a_killed_runtime_answers_502_and_the_next_event_finds_a_cold_one(
    started: Container, tmp_path: Path
) -> None:
    killer = _Killer(tmp_path / "running", started.kill_runtime)
    answer = started.invoke(killer.event)
    killer.join()
    assert (answer.status, answer.killed) == (502, True)
    assert started.invoke().result["calls"] == 1


def test_a_killed_container_answers_nothing_and_can_be_started_anew(
    started: Container, tmp_path: Path
) -> None:
    killer = _Killer(tmp_path / "running", started.kill)
    answer = started.invoke(killer.event)
    killer.join()
    assert (answer.status, answer.killed) == (0, True)
    assert '"calls": 1' in answer.log
    assert started.invoke().killed
    started.start()
    assert started.invoke().result["calls"] == 1


def test_killing_a_runtime_that_is_not_there_says_so(started: Container) -> None:
    assert started.kill_runtime() is False


@pytest.mark.parametrize("kind", [_emulator, SubprocessContainer])
def test_a_handler_that_cannot_be_imported_answers_502(
    kind: Callable[[Function], Container], handler_folder: Callable[[str], Path]
) -> None:
    with kind(Function(handler_folder("import no_such_module"))) as container:
        answer = container.invoke()
    assert (answer.status, answer.killed) == (502, False)
    assert answer.error
    assert "No module named 'no_such_module'" in answer.error


def test_several_containers_run_side_by_side(
    container: Callable[..., Container], handler_folder: Callable[[str], Path]
) -> None:
    function = Function(handler_folder(HANDLER))
    pids = {container(function).invoke().result["pid"] for _ in range(2)}
    assert len(pids) == 2


def test_a_folder_before_the_handlers_replaces_one_of_its_modules(
    container: Callable[..., Container], handler_folder: Callable[[str], Path]
) -> None:
    users = handler_folder("import deliver\ndef lambda_handler(e, c): return deliver.WHOSE")
    (users / "deliver.py").write_text("WHOSE = 'the user'")
    ours = handler_folder("")
    (ours / "app.py").unlink()
    (ours / "deliver.py").write_text("WHOSE = 'the test'")
    assert container(Function(users, before=(ours,))).invoke().result == "the test"


def test_the_best_kind_is_the_emulator_where_it_runs() -> None:
    container, words = open_container(Function())
    assert isinstance(container, EmulatorContainer) == ("instead of" not in words)


class _Killer(threading.Thread):
    """Kills as soon as the handler has written its marker, so in mid-run."""

    def __init__(self, marker: Path, kill: Callable[[], object]) -> None:
        super().__init__()
        self._marker, self._kill = marker, kill
        self.event = {"touch": str(marker), "sleep_s": 30}
        self.start()

    def run(self) -> None:
        while not self._marker.exists():
            time.sleep(0.005)
        self._kill()
