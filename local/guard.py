"""Runs one command and ends it, with everything it started, when whoever started it is gone.

`python guard.py LOG COMMAND…` in a process group of its own, with a pipe as standard input. The
pipe's other end is held by one process only, so its end means that the holder has closed it or has
died, of whatever cause: an exit, a SIGKILL, a crash. That needs no signal to be caught and works
the same on Linux and macOS (PR_SET_PDEATHSIG is Linux's alone, and is bound to a thread).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE_S = 3.0


def main(log: Path, command: list[str]) -> int:
    """End as the command does, or end everything once the pipe is at its end."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    let_go = threading.Event()
    watch = threading.Thread(target=_end_with_the_pipe, args=(child, log, let_go), daemon=True)
    watch.start()
    status = child.wait()
    if let_go.is_set():
        watch.join()  # it still has the rest to end, and ends this process too
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


def descendants(pid: int) -> list[int]:
    """Children, grandchildren and so on, parents first; empty where there is no /proc.

    The Lambda emulator gives its runtime a process group of its own, so a group is not all there
    is to end. It runs on Linux only; elsewhere the group suffices.
    """
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def kill(pids: list[int]) -> None:
    """SIGKILL each process that still is there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _end_with_the_pipe(child: subprocess.Popen[bytes], log: Path, let_go: threading.Event) -> None:
    """Ask the command to end, then insist; this process ends with its group."""
    os.read(sys.stdin.fileno(), 1)  # nobody writes: it returns at the end
    let_go.set()
    with_children = descendants(os.getpid())
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    child.kill()
    kill(with_children)
    child.wait()
    log.unlink(missing_ok=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
