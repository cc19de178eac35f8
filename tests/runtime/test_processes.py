"""The harness itself: no server outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processes

if TYPE_CHECKING:
    from collections.abc import Callable

LOCAL = Path(processes.__file__).parent
SLEEPS = ["-c", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"]
STUBBORN = [
    "-c",
    (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('pid', os.getpid(), flush=True); time.sleep(600)"
    ),
]
WITH_A_GROUP_ASIDE = [
    "-c",
    (
        "import subprocess, sys, time;"
        f"aside = subprocess.Popen([sys.executable, *{SLEEPS!r}], start_new_session=True);"
        "time.sleep(600)"
    ),
]
PARENT = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.path.insert(0, {str(LOCAL)!r})
import processes
child = processes.start("child", [sys.executable, *{SLEEPS!r}])
print(child.wait_for(r"pid (\\d+)")[1], child.log, flush=True)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _ends(pid: int) -> bool:
    return _comes_true(lambda: not _alive(pid))


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        child, log = parent.stdout.readline().split()
        assert _alive(int(child))
        parent.send_signal(how)
    assert _ends(int(child))
    assert _comes_true(lambda: not Path(log).exists())


@pytest.mark.parametrize("command", [SLEEPS, STUBBORN], ids=["obedient", "ignores SIGTERM"])
def test_stop_ends_the_command_and_removes_its_log(command: list[str]) -> None:
    process = processes.start("child", [sys.executable, *command])
    pid = int(process.wait_for(r"pid (\d+)")[1])
    process.stop()
    process.stop()
    assert not _alive(pid)
    assert not process.log.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the emulator, which needs it, is Linux's")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_a_command_starts_in_another_group_ends_with_it(end: str) -> None:
    """As Lambda's emulator starts its runtime, which may be in the middle of a run."""
    process = processes.start("child", [sys.executable, *WITH_A_GROUP_ASIDE])
    pid = int(process.wait_for(r"pid (\d+)")[1])
    getattr(process, end)()
    assert _ends(pid)
    process.stop()


def test_kill_leaves_the_log_to_read() -> None:
    process = processes.start("child", [sys.executable, *STUBBORN])
    pid = int(process.wait_for(r"pid (\d+)")[1])
    process.kill()
    assert _ends(pid)
    assert not process.running
    assert f"pid {pid}" in process.read_log()
    process.stop()


def test_a_server_that_ends_at_once_shows_its_log() -> None:
    process = processes.start("child", [sys.executable, "-c", "raise SystemExit('no such port')"])
    with pytest.raises(processes.ProcessFailedError, match="no such port"):
        process.wait_for("listening")
    assert not process.log.exists()


def test_a_server_that_never_listens_is_ended() -> None:
    process = processes.start("child", [sys.executable, *SLEEPS])
    pid = int(process.wait_for(r"pid (\d+)")[1])
    with pytest.raises(processes.ProcessFailedError, match="took too long"):
        process.wait_for("listening", within_s=0.01)
    assert not _alive(pid)
