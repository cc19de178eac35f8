"""What a server is told to get wrong next."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servers.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable


class ConnectionClosed(Exception):
    """The server closes the connection instead of answering."""


@dataclass
class Fault:
    """One fault of one command, after `skip` of them and for `times` of them."""

    command: str
    act: Callable[[], object]
    skip: int
    times: int


class Faults:
    """A queue: each fault strikes the commands of its name that come next, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def fail(
        self, command: str, code: int, *, times: int = 1, skip: int = 0, resumable: bool = False
    ) -> None:
        """Let `aggregate`, `getMore`, `find`, … answer `code`; `resumable`: with the label."""

        def act() -> None:
            raise CommandError(code, resumable=resumable)

        self.before(command, act, times=times, skip=skip)

    def close_connection(self, command: str, *, times: int = 1, skip: int = 0) -> None:
        """Let the connection close instead of an answer."""

        def act() -> None:
            raise ConnectionClosed

        self.before(command, act, times=times, skip=skip)

    def before(
        self, command: str, act: Callable[[], object], *, times: int = 1, skip: int = 0
    ) -> None:
        """Do something when the command comes, before it is answered as usual."""
        with self._lock:
            self._waiting.append(Fault(command, act, skip, times))

    def strike(self, command: str) -> None:
        """Do what is due to a command. Raises CommandError and ConnectionClosed."""
        fault = self._take(command)
        if fault is not None:
            fault.act()

    def clear(self) -> None:
        """Forget what has not struck yet."""
        with self._lock:
            self._waiting.clear()

    @property
    def are_over(self) -> bool:
        """Whether every fault has struck."""
        return not self._waiting

    def _take(self, command: str) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if fault.command != command:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
                return fault
            return None
