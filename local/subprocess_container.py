"""One Lambda container where AWS's emulator does not run: the handler in a plain subprocess.

It answers in the emulator's words and with its statuses: 200 also for an error or a timeout, 502
when the runtime was killed; the deadline is enforced with SIGKILL from outside. What it cannot
show is AWS's own runtime client at work.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import processes
from container import Answer, Function
from processes import Process

IMPORT_ERROR = "Runtime.ImportModuleError"
RUNTIME = Path(__file__).with_name("subprocess_runtime.py")
START_S = 20.0


@dataclass(frozen=True)
class _Runtime:
    """One run of the runtime, connected: it reads an event a line and writes an answer a line."""

    process: Process
    connection: socket.socket

    def ask(self, event: object, timeout_s: float) -> str:
        """The answer's line; empty when the runtime died. Raises: TimeoutError."""
        deadline_s = time.time() + timeout_s
        asked = {"event": event, "request_id": str(uuid.uuid4()), "deadline_s": deadline_s}
        self.connection.settimeout(timeout_s)
        try:
            self.connection.sendall(json.dumps(asked).encode() + b"\n")
            return self._read_line(deadline_s)
        except ConnectionError:
            return ""

    def _read_line(self, deadline_s: float) -> str:
        received = b""
        while not received.endswith(b"\n"):
            self.connection.settimeout(max(0.001, deadline_s - time.time()))
            part = self.connection.recv(1 << 16)
            if not part:
                return ""
            received += part
        return received.decode().rstrip("\n")


class SubprocessContainer:
    """A `Container` whose runtime is `subprocess_runtime.py`."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._runtime: _Runtime | None = None
        self._ended_logs = ""
        self._started = False
        self._killed = False
        self._one = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Forget what was before; the runtime starts with the first event."""
        self.stop()
        self._ended_logs = ""
        self._started, self._killed = True, False

    def invoke(self, event: object = None) -> Answer:
        """Hand the event, `{}` by default, to the runtime; a killed container answers status 0."""
        if not self._started:
            raise RuntimeError("the container is not started")
        with self._one:
            if self._killed:
                return Answer(0, "", "")
            runtime = self._runtime or self._start_runtime()
            logged = len(self.read_log())
            status, body = self._ask(runtime, {} if event is None else event)
            return Answer(status, body, self.read_log()[logged:])

    def kill(self) -> None:
        """SIGKILL the runtime, and refuse what comes until the next `start`."""
        self._killed = True
        self.kill_runtime()

    def kill_runtime(self) -> bool:
        """SIGKILL the runtime; the next event gets a new one."""
        if runtime := self._runtime:
            runtime.process.kill()
        return runtime is not None

    def stop(self) -> None:
        """End the runtime."""
        self._started = False
        self._discard()

    def read_log(self) -> str:
        """All that was printed since the start, by every runtime."""
        runtime = self._runtime
        return self._ended_logs + (runtime.process.read_log() if runtime else "")

    def _ask(self, runtime: _Runtime, event: object) -> tuple[int, str]:
        timeout_s = self.function.timeout_s
        try:
            answer = runtime.ask(event, timeout_s)
        except TimeoutError:
            runtime.process.kill()
            self._discard()
            return 200, f"Task timed out after {timeout_s:.2f} seconds"
        if answer:
            return (502 if IMPORT_ERROR in answer else 200), answer
        ending = _exit_error(runtime.process.wait())
        self._discard()
        return (0, "") if self._killed else (502, ending)

    def _start_runtime(self) -> _Runtime:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(START_S)
            port = str(server.getsockname()[1])
            process = processes.start(
                "lambda",
                [sys.executable, RUNTIME, port, "app.lambda_handler"],
                environment=self.function.process_environment(),
                folder=self.function.task_root,
            )
            try:
                connection, _ = server.accept()
            except BaseException:
                process.stop()
                raise
        self._runtime = _Runtime(process, connection)
        return self._runtime

    def _discard(self) -> None:
        """End the runtime that there is, and keep what it printed."""
        if runtime := self._runtime:
            self._ended_logs = self.read_log()
            self._runtime = None
            runtime.connection.close()
            runtime.process.stop()


def _exit_error(status: int) -> str:
    """The emulator's words for a runtime that ended without an answer."""
    how = "signal: killed" if status == -signal.SIGKILL else f"exit status {status}"
    message = f"Error: Runtime exited with error: {how}"
    return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message})
