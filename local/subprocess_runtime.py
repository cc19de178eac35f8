"""A small Lambda runtime: `python subprocess_runtime.py PORT app.lambda_handler`.

Connects to the container's port and answers events there, one JSON line each, in order.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Context:
    """What Lambda hands to a handler besides the event."""

    aws_request_id: str
    deadline_s: float
    """Unix time, as the deadline comes from another process."""
    function_name: str = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version: str = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
    memory_limit_in_mb: str = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:012345678912:function:tidemark"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the container kills this process; 0 when that is due."""
        return max(0, int((self.deadline_s - time.time()) * 1000))


def main(port: int, handler: str) -> None:
    """Answer until the container closes the connection; a failed import answers, then ends it."""
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        connection.makefile("rw") as io,
    ):
        function = _attempt(lambda: _load(handler))
        if isinstance(function, dict):
            io.readline()
            message = f"Unable to import module {handler!r}: {function['errorMessage']}"
            _send(io, {"errorMessage": message, "errorType": "Runtime.ImportModuleError"})
            return
        for line in io:
            asked = json.loads(line)
            context = Context(asked["request_id"], asked["deadline_s"])
            _send(io, _attempt(lambda: function(asked["event"], context)))  # noqa: B023 - at once


def _load(handler: str) -> Callable[[Any, Context], Any]:
    module, _, name = handler.rpartition(".")
    loaded: Callable[[Any, Context], Any] = getattr(importlib.import_module(module), name)
    return loaded


def _attempt(step: Callable[[], Any]) -> Any:
    """The step's result, or the error in the form in which Lambda reports it."""
    try:
        return step()
    except Exception as error:
        return {"errorMessage": str(error), "errorType": type(error).__name__}


def _send(io: Any, answer: Any) -> None:
    io.write(json.dumps(answer) + "\n")
    io.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
