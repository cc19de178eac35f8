"""Answers that are late at random, from a seed: how the stubs and the sink play a bad day."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Stalls:
    """A `share` of answers is late, by `up_to_s` at the most."""

    share: float = 0.0
    up_to_s: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(6))

    def suffer(self) -> None:
        """Be late, perhaps."""
        if self.share and self._random.random() < self.share:
            time.sleep(self._random.uniform(0, self.up_to_s))

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Let a command line ask for stalls."""
        parser.add_argument("--stall-share", type=float, default=0.0, help="of answers: 0 to 1")
        parser.add_argument("--stall-up-to-s", type=float, default=0.0)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Stalls:
        """What a command line asked for."""
        return cls(options.stall_share, options.stall_up_to_s)
