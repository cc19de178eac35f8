"""One Lambda container under AWS's Runtime Interface Emulator with AWS's runtime client.

Real deadlines, real kills: at the timeout the emulator answers `Task timed out` and SIGKILLs the
runtime, and the next invocation is a cold one. Two requests at once crash it, so a lock admits one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import guard
import processes
from container import Answer, Function
from processes import Process

if TYPE_CHECKING:
    from pathlib import Path

INVOCATIONS = "/2015-03-31/functions/function/invocations"
HOST = "127.0.0.1"
# What the emulator may take beyond the function's own timeout before something is wrong with it.
SLACK_S = 20


class EmulatorContainer:
    """A `Container` whose runtime is `python -m awslambdaric app.lambda_handler`."""

    def __init__(self, function: Function, binary: Path) -> None:
        self.function = function
        self._binary = binary
        self._process: Process | None = None
        self._port = 0
        self._one = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the emulator and wait until it accepts connections."""
        self.stop()
        self._port = processes.free_port()
        self._process = processes.start(
            "lambda",
            self._command(),
            environment=self.function.process_environment(),
            folder=self.function.task_root,
        )
        self._wait_until_it_listens()

    def invoke(self, event: object = None) -> Answer:
        """Post the event, `{}` by default; a killed container answers with status 0."""
        process = self._started()
        body = json.dumps({} if event is None else event)
        with self._one:
            logged = process.log.stat().st_size
            try:
                status, answer = self._post(body)
            except (OSError, http.client.HTTPException):
                status, answer = 0, ""
            return Answer(status, answer, process.read_log(logged))

    def kill(self) -> None:
        """SIGKILL the emulator and the runtime."""
        self._started().kill()

    def kill_runtime(self) -> bool:
        """SIGKILL the runtime: the emulator answers 502 and makes a new one for the next event."""
        _, *runtime = self._started().tree()
        guard.kill(runtime)
        return bool(runtime)

    def stop(self) -> None:
        """End emulator and runtime."""
        if self._process:
            self._process.stop()

    def read_log(self) -> str:
        """All that was printed since the start."""
        return self._started().read_log()

    def _command(self) -> list[str]:
        return [
            str(self._binary),
            *("--runtime-interface-emulator-address", f"{HOST}:{self._port}"),
            # Without this every emulator takes port 9001, and the second one fails.
            *("--runtime-api-address", f"{HOST}:{processes.free_port()}"),
            *(sys.executable, "-m", "awslambdaric", "app.lambda_handler"),
        ]

    def _post(self, body: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            HOST, self._port, timeout=self.function.timeout_s + SLACK_S
        )
        with contextlib.closing(connection):
            connection.request("POST", INVOCATIONS, body)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def _started(self) -> Process:
        if self._process is None:
            raise RuntimeError("the container is not started")
        return self._process

    def _wait_until_it_listens(self) -> None:
        """A connection is enough: the emulator prints nothing to wait for."""
        deadline = time.monotonic() + SLACK_S
        while not _accepts(self._port):
            if not self._started().running or time.monotonic() > deadline:
                log = self.read_log()[-2000:]
                self.stop()
                raise processes.ProcessFailedError(f"the emulator did not start:\n{log}")
            time.sleep(processes.POLL_S)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
