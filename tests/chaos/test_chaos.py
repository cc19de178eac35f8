"""`make chaos` in small: real processes, a few kills, and a verdict that can fail."""

from __future__ import annotations

import os
import subprocess
import sys

import chaos


def _run(uri: str, *options: str) -> subprocess.CompletedProcess[str]:
    """One pair of containers; the last line is the verdict."""
    command = [sys.executable, chaos.__file__, "--pairs", "1", "--within-s", "60", *options]
    environment = {**os.environ, "MONGODB_URI": uri}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_nothing_is_lost_while_containers_are_killed(mongodb_uri: str) -> None:
    """G1, G2, G3, G4: with real processes, real deadlines and SIGKILL."""
    ended = _run(mongodb_uri, "--kills", "3", "--seed", "1")
    assert "\nKEPT: " in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


def test_a_sink_that_turns_batches_round_is_found_out(mongodb_uri: str) -> None:
    """G2: the verdict on real processes can fail."""
    ended = _run(mongodb_uri, "--kills", "0", "--seed", "1", "--sabotage", "swap")
    assert "\nBROKEN: " in ended.stdout, ended.stdout + ended.stderr
    assert " 0 out of order" not in ended.stdout
    assert ended.returncode == 1
