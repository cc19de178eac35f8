"""Runs one measurement in a fresh process: `python child.py MODULE FUNCTION ARGUMENTS-AS-JSON`.

What the function returns is the last line of the output, as JSON; Powertools may print before it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
FOLDERS = (HERE, ROOT / "layers" / "tidemark", ROOT / "local", ROOT / "handler")
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


class MeasurementFailedError(Exception):
    """A child process ended without a result; carries the end of what it printed."""


def environment(more: dict[str, str]) -> dict[str, str]:
    """A child's whole environment: no variable of the developer's decides a figure."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    path = os.pathsep.join(map(str, FOLDERS))
    return inherited | {"PYTHONPATH": path, "POWERTOOLS_METRICS_NAMESPACE": "Bench"} | more


def measure(where: str, more: dict[str, str] | None = None, **arguments: Any) -> Any:
    """What the function `where` ("module.function") returns for `arguments`, in a new process."""
    module, _, function = where.rpartition(".")
    command = [sys.executable, str(HERE / "child.py"), module, function, json.dumps(arguments)]
    done = subprocess.run(
        command, env=environment(more or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MeasurementFailedError(f"{where}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(module: str, function: str, arguments: str) -> None:
    """Call and print."""
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
