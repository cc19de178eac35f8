"""Starts a server as a process of its own and ends it, by its own id only, whatever happens.

Each command runs under `guard.py`, so that it cannot outlive us: not after an error, Ctrl-C,
SIGTERM, nor SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POLL_S = 0.005


class ProcessFailedError(Exception):
    """A command ended, or did not say in time that it is ready; carries the end of its log."""


@dataclass(frozen=True)
class Process:
    """A running command: what it prints goes to `log`, which lives as long as it does."""

    name: str
    log: Path
    _guard: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return self._guard.poll() is None

    def tree(self) -> list[int]:
        """The command's process id, then those of what it started (Linux; empty elsewhere)."""
        return guard.descendants(self._guard.pid)

    def wait_for(self, pattern: str, *, within_s: float = 30) -> re.Match[str]:
        """Return the first match in the log.

        Raises:
            ProcessFailedError: the command ended first, or did not print it `within_s`.
        """
        deadline = time.monotonic() + within_s
        while not (match := re.search(pattern, self.read_log())):
            self._insist(deadline, pattern)
        return match

    def read_log(self, start: int = 0) -> str:
        """What the command has printed, from the byte `start` on."""
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def wait(self) -> int:
        """The exit status once the command has ended; a signal's number, negative, if killed."""
        return self._guard.wait()

    def stop(self) -> None:
        """End the command, SIGTERM first, and remove its log. Once or often."""
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait()
        self.log.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL the command and everything it started, at once; its log stays until `stop`."""
        rest = self.tree()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        guard.kill(rest)
        self._guard.wait()

    def _insist(self, deadline: float, pattern: str) -> None:
        ended = not self.running
        if ended or time.monotonic() > deadline:
            what = "ended" if ended else "took too long"
            log = self.read_log()[-2000:]
            self.stop()
            raise ProcessFailedError(f"{self.name} {what} before it printed {pattern!r}:\n{log}")
        time.sleep(POLL_S)


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Process:
    """Start a command in a process group of its own; its environment is ours unless given."""
    descriptor, log = tempfile.mkstemp(prefix=f"tidemark-{name}-", suffix=".log")
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-S", guard.__file__, log, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    return Process(name, Path(log), process)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free just now: only for servers that cannot choose one by themselves."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
