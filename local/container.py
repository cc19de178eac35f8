"""What one Lambda container is to the demo and the tests, whoever plays Lambda.

`emulator.py` runs the handler under AWS's own emulator; `subprocess_container.py` does where that
does not run. Both answer alike, with the emulator's statuses and words.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent
LAYER = ROOT / "layers" / "tidemark"
HANDLER = ROOT / "handler"
MEMORY_MB = 512
# What a child process needs of ours; the rest stays out, so that a variable of the developer's
# cannot change a test.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Function:
    """What is deployed: the handler's folder, its environment and its timeout."""

    handler: Path = HANDLER
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 10
    """Whole seconds, as Lambda has it."""
    before: tuple[Path, ...] = ()
    """Folders looked into before the handler's, as for another `deliver.py`."""

    @property
    def task_root(self) -> Path:
        """Where Lambda's runtime starts, and what it puts first on Python's path."""
        return (*self.before, self.handler)[0]

    def process_environment(self) -> dict[str, str]:
        """The whole environment of the runtime's process: Lambda's own variables and the user's."""
        path = (*self.before, self.handler, LAYER)
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONUNBUFFERED": "1",
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "AWS_LAMBDA_FUNCTION_NAME": "tidemark",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_s),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
            **self.environment,
        }


@dataclass(frozen=True)
class Answer:
    """What Lambda answered to one invocation, and what the function logged meanwhile."""

    status: int
    """HTTP: 200 also for an error or a timeout of the function, 502 when the runtime ended or could
    not start, 0 when the container was gone."""
    body: str
    log: str

    @property
    def timed_out(self) -> bool:
        """Whether Lambda ended the run at its timeout."""
        return self.body.startswith("Task timed out")

    @property
    def killed(self) -> bool:
        """Whether a SIGKILL, of the runtime or of the whole container, kept it from answering."""
        return self.status == 0 or (self.status == 502 and "signal: killed" in self.body)

    @property
    def result(self) -> Any:
        """What the handler returned, or Lambda's error object; None without a JSON answer."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> str | None:
        """The message with which the invocation failed; None if it did not."""
        if isinstance(self.result, dict) and "errorMessage" in self.result:
            return str(self.result["errorMessage"])
        return None if self.status == 200 and not self.timed_out else self.body or "no answer"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The structured log events; lines of another form are left out."""
        return [event for event in map(_parsed, self.log.splitlines()) if event]


class Container(Protocol):
    """One container: warm between invocations, one of them at a time.

    Calling order: `start`, then any number of `invoke`, then `stop`. After a `kill` only `start`
    helps, which makes a new, cold one. As a context manager it starts and stops.
    """

    function: Function

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def start(self) -> None:
        """Start it; the runtime itself starts with the first invocation, as on Lambda."""

    def invoke(self, event: object = None) -> Answer:
        """Run the handler once and wait for its end. Raises: RuntimeError if it is not started."""

    def kill(self) -> None:
        """SIGKILL the container with all that is in it; from another thread, in mid-run.

        The log stays readable until `stop` or the next `start`.
        """

    def kill_runtime(self) -> bool:
        """SIGKILL the handler's process only; False when there was none."""

    def stop(self) -> None:
        """End it in an orderly way. Once or often."""

    def read_log(self) -> str:
        """All that the function and its runtime have printed since the start."""


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def open_container(function: Function) -> tuple[Container, str]:
    """A container of the best kind that runs here, not started, and the words that say which."""
    import emulator  # noqa: PLC0415 - both implement what stands above
    import subprocess_container  # noqa: PLC0415
    from emulator_binary import EmulatorMissingError, find  # noqa: PLC0415

    try:
        binary = find()
    except EmulatorMissingError as reason:
        stand_in = subprocess_container.SubprocessContainer(function)
        return stand_in, f"a plain subprocess instead of AWS's emulator: {reason}"
    return emulator.EmulatorContainer(function, binary), "AWS's Runtime Interface Emulator"
